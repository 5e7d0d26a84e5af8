// SPDX-License-Identifier: Apache-2.0
// The global norm, clipping to it, and the first value that is not finite.
#include "insula/optim/clip.hpp"

#include <limits>

#include "insula/plain.hpp"
#include "support/catch.hpp"

using namespace insula;

TEST_CASE("clipping shrinks a gradient to the norm asked for, PyTorch's rule, and never stretches it") {
  context<plain> cx;
  std::vector<float> const g{3, -4, 12};
  CHECK(l2_norm(cx, g.data(), 3) == 13);
  CHECK(clip_factor(13, 10) == 10 / (13 + 1e-6));
  CHECK(clip_factor(9, 10) == 1);
  CHECK(clip_factor(10, 10) < 1);
  CHECK(clip_factor(1e9, 0) == 1);  // 0: never
}

TEST_CASE("the first value that is not finite is named with tensor, place and value") {
  std::vector<tensor_place> const places{{"a.weight", make_dims(2), layout::same, start::zeros, 1, 0, false},
                                         {"b.bias", make_dims(3), layout::same, start::zeros, 1, 16, false}};
  std::vector<float> w(32);
  w[8] = std::numeric_limits<float>::quiet_NaN();  // between the tensors: not of either
  CHECK(first_not_finite(places, w.data()).empty());
  w[18] = -std::numeric_limits<float>::infinity();
  CHECK(first_not_finite(places, w.data()) == "b.bias[2] = -inf");
  w[1] = std::numeric_limits<float>::quiet_NaN();
  CHECK(first_not_finite(places, w.data()) == "a.weight[1] = nan");
}
