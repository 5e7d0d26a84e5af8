// SPDX-License-Identifier: Apache-2.0
// The effective rank of a set of vectors: how many directions they use.
#pragma once

#include <cmath>

#include "insula/base/check.hpp"
#include "insula/base/config.hpp"

// The AVX-512 intrinsics of g++ 12 start from an undefined register, which warns once Eigen is inlined.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <Eigen/Eigenvalues>

namespace insula {

/// exp of the entropy of the normalised singular values of the column-centred matrix x (rows, columns, row-major):
///   0 if sum s <= 1e-6;  else s = max(s, 1e-6),  p = s / sum s,  H = - sum p ln(p + 1e-6),  result exp(H).
/// Roy & Vetterli 2007; UMBRA utils/metrics.py. s has min(rows, columns) values; for rows > 4 columns they are those of
/// x / sqrt(rows - 1), as there, and the floor of 1e-6 applies to them. In double; singular values below 1e-7 of the
/// largest are noise, as they are in the float32 original.
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

  // The singular values are the roots of the eigenvalues of the smaller of x x' and x'x.
  matrix const square =
      rows <= columns ? matrix(centred * centred.transpose()) : matrix(centred.transpose() * centred);
  Eigen::VectorXd s = Eigen::SelfAdjointEigenSolver<matrix>(square, Eigen::EigenvaluesOnly).eigenvalues();
  s = s.cwiseMax(0).cwiseSqrt();
  if (rows > 4 * columns) s /= std::sqrt(double(rows - 1));
  if (s.sum() <= 1e-6) return 0;
  s = s.cwiseMax(1e-6);
  double const sum = s.sum();
  double entropy = 0;
  for (double v : s) entropy -= v / sum * std::log(v / sum + 1e-6);
  return std::exp(entropy);
}

}  // namespace insula

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
