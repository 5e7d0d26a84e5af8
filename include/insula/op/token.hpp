// SPDX-License-Identifier: Apache-2.0
// Sequences of a vision transformer: class token and positions, tokens left out and put back, parts of a sequence.
#pragma once

#include "insula/op/kernel.hpp"

namespace insula::op {

/// The sequence an encoder starts with:  y[n,0,:] = token + position[0,:],
/// y[n,1+k,:] = x[n,k,:] + position[1+id,:],  id = shuffle ? shuffle[n,k] : k.
struct lead_tokens {
  template <class T>
  struct args {
    index_t batch, tokens, positions, channels;  // tokens per sample of x, at most `positions`
    std::int32_t const* shuffle;                 // (batch, positions), or null
    T const* x;                                  // (batch, tokens, channels)
    T const* token;                              // (channels)
    T const* position;                           // (1 + positions, channels)
    T* y;                                        // (batch, 1 + tokens, channels)
  };
};
/// gx[n,k,:] (+)= gy[n,1+k,:],  gtoken += sum of gy[n,0,:],  gposition += gy of the rows each position was added to.
struct lead_tokens_grad {
  template <class T>
  struct args {
    index_t batch, tokens, positions, channels;
    std::int32_t const* restore;  // (batch, positions), the inverse of shuffle; null where shuffle was
    T const* gy;
    bool adds;
    T *gx, *gtoken, *gposition;
  };
};

/// The sequence a decoder starts with. The kept tokens x[n,1..] return to their places, the others are the mask token:
/// y[n,0,:] = x[n,0,:] + position[0,:],  y[n,1+l,:] = (r < kept ? x[n,1+r,:] : token) + position[1+l,:],  r = restore[n,l],
/// or l if restore is null.
struct restore_tokens {
  template <class T>
  struct args {
    index_t batch, kept, positions, channels;
    std::int32_t const* restore;  // (batch, positions), a permutation; or null
    T const* x;                   // (batch, 1 + kept, channels)
    T const* token;               // (channels)
    T const* position;            // (1 + positions, channels)
    T* y;                         // (batch, 1 + positions, channels)
  };
};
/// gx (+)= gy of the place each token went to,  gtoken += sum of gy over masked places,  gposition += sum over samples.
struct restore_tokens_grad {
  template <class T>
  struct args {
    index_t batch, kept, positions, channels;
    std::int32_t const* restore;
    T const* gy;
    bool adds;
    T *gx, *gtoken, *gposition;
  };
};

/// y[n,t,:] = x[n, first + t, :], t < count
struct slice_tokens {
  template <class T>
  struct args {
    index_t batch, tokens, channels, first, count;
    T const* x;  // (batch, tokens, channels)
    T* y;        // (batch, count, channels)
  };
};
/// gx[n, first + t, :] (+)= gy[n,t,:]; the other tokens get 0, or are left as they are if adds.
struct slice_tokens_grad {
  template <class T>
  struct args {
    index_t batch, tokens, channels, first, count;
    T const* gy;
    bool adds;
    T* gx;
  };
};

}  // namespace insula::op
