// SPDX-License-Identifier: Apache-2.0
// The effective rank of a set of vectors: how many directions they use.
#pragma once

#include <Eigen/Eigenvalues>
#include <Eigen/SVD>
#include <cmath>

#include "insula/base/check.hpp"
#include "insula/base/config.hpp"

namespace insula {

/// exp of the entropy of the normalised singular values of the column-centred matrix x (rows, columns, row-major):
///   0 if sum s <= 1e-6;  else s = max(s, 1e-6),  p = s / sum s,  H = - sum p ln(p + 1e-6),  result exp(H).
/// Roy & Vetterli 2007; UMBRA utils/metrics.py. s has min(rows, columns) values, by SVD; for rows > 4 columns they
/// are the roots of the eigenvalues, clamped at 0, of the covariance x'x / (rows - 1), as there: the floor of 1e-6
/// then applies to another scale. In double.
/// UMBRA logs it for its queue as stored, 128 features (rows) by 16384 keys (columns).
/// Throws unless there are two rows and one column, and if a value is not finite.
inline double effective_rank(float const* x, index_t rows, index_t columns) {
  check(rows >= 2 && columns >= 1, "effective_rank: the matrix is ", rows, " x ", columns,
        ", it needs at least 2 rows and 1 column");
  using matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic>;
  using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  matrix centred = Eigen::Map<row_major const>(x, rows, columns).cast<double>();
  check(centred.allFinite(), "effective_rank: the ", rows, " x ", columns,
        " matrix has a value that is not finite; training has diverged or the file is damaged");
  centred.rowwise() -= centred.colwise().mean().eval();

  Eigen::VectorXd s;
  if (rows > 4 * columns) {
    matrix const covariance = centred.transpose() * centred / double(rows - 1);
    s = Eigen::SelfAdjointEigenSolver<matrix>(covariance, Eigen::EigenvaluesOnly).eigenvalues();
    s = s.cwiseMax(0).cwiseSqrt();
  } else if (columns >= rows) {
    // A wide matrix has the singular values of the small triangle of its transpose.
    Eigen::HouseholderQR<matrix> const qr(centred.transpose());
    matrix const triangle = qr.matrixQR().topRows(rows).triangularView<Eigen::Upper>();
    s = Eigen::BDCSVD<matrix>(triangle).singularValues();
  } else {
    s = Eigen::BDCSVD<matrix>(centred).singularValues();
  }
  if (s.sum() <= 1e-6) return 0;
  s = s.cwiseMax(1e-6);
  double const sum = s.sum();
  double entropy = 0;
  for (double v : s) entropy -= v / sum * std::log(v / sum + 1e-6);
  return std::exp(entropy);
}

}  // namespace insula
