// SPDX-License-Identifier: Apache-2.0
// Element-wise ops: activations, addition, mask-token injection, drop path.
#pragma once

#include "insula/base/random.hpp"
#include "insula/op/kernel.hpp"

namespace insula {

/// none: u;  relu: max(u, 0);  leaky_relu: u > 0 ? u : 0.01 u;  gelu: u/2 (1 + erf(u / sqrt 2)), the exact form.
enum class activation { none, relu, leaky_relu, gelu };
inline constexpr double leaky_slope = 0.01;

namespace op {

/// y = act(x). y may be x.
struct activate {
  template <class T>
  struct args {
    index_t n;
    activation act;
    T const* x;
    T* y;
  };
};
/// gx (+)= act'(x) gy. At a kink the derivative is that of the negative side (as PyTorch). gx may be x or gy if
/// !adds.
struct activate_grad {
  template <class T>
  struct args {
    index_t n;
    activation act;
    T const *x, *gy;
    bool adds;
    T* gx;
  };
};

/// y = a + b. y may be a or b.
struct add {
  template <class T>
  struct args {
    index_t n;
    T const *a, *b;
    T* y;
  };
};

/// y += alpha x
struct axpy {
  template <class T>
  struct args {
    index_t n;
    T alpha;
    T const* x;
    T* y;
  };
};

/// y[n,p,:] = mask[n,p] ? token : x[n,p,:].  mask null: y = x. y may be x.
struct mask_token {
  template <class T>
  struct args {
    index_t batch, positions, channels;
    T const* x;                // (batch, positions, channels)
    std::uint8_t const* mask;  // (batch, positions), 0 or 1; or null
    T const* token;            // (channels)
    T* y;
  };
};
/// gx (+)= mask ? 0 : gy,  gtoken += sum of gy over masked positions. gx may be gy if !adds.
struct mask_token_grad {
  template <class T>
  struct args {
    index_t batch, positions, channels;
    std::uint8_t const* mask;
    T const* gy;
    bool adds;
    T *gx, *gtoken;
  };
};

/// y[n,:] = skip[n,:] + keep_n / (1 - rate) x[n,:],  keep_n = uniform_at(key, n) >= rate. skip null: absent.
/// Stochastic depth, Huang et al. 2016 (arXiv 1603.09382). rate == 0 or training == false: plain addition.
struct drop_path {
  template <class T>
  struct args {
    index_t batch, size;
    double rate;
    bool training;
    random_key key;
    T const *x, *skip;
    T* y;
  };
};
/// gx (+)= keep_n / (1 - rate) gy
struct drop_path_grad {
  template <class T>
  struct args {
    index_t batch, size;
    double rate;
    bool training;
    random_key key;
    T const* gy;
    bool adds;
    T* gx;
  };
};

}  // namespace op
}  // namespace insula
