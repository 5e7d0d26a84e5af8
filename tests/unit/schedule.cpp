// SPDX-License-Identifier: Apache-2.0
// Schedules against the published numbers.
#include "insula/optim/schedule.hpp"

#include "support/catch.hpp"

using namespace insula;

namespace {

bool close(double value, double published, double digits = 1e-9) {
  return std::abs(value - published) <= digits * std::abs(published);
}

}  // namespace

TEST_CASE("momentum and contrastive weight follow UMBRA's ramps") {
  ramp const momentum{0.05, 0.20, 0.996, 0.999, 200000}, alpha{0.05, 0.10, 0.1, 1.0, 200000};
  CHECK(momentum.at(0) == 0.996);
  CHECK(momentum.at(10000) == 0.996);
  CHECK(close(momentum.at(10001), 0.9960001));
  CHECK(close(momentum.at(25000), 0.9975));
  CHECK(momentum.at(40000) == 0.999);
  CHECK(momentum.at(199999) == 0.999);
  CHECK(alpha.at(10000) == 0.1);
  CHECK(close(alpha.at(10001), 0.10009));
  CHECK(alpha.at(20000) == 1);
}

TEST_CASE("a ramp without length is a step") {
  ramp const r{0.5, 0.5, 1, 2, 10};
  CHECK(r.at(5) == 1);
  CHECK(r.at(6) == 2);
}

TEST_CASE("the pretraining rate is the published one") {
  warmup_cosine const r{.total = 200000};
  CHECK(close(r.at(0), 1e-10));
  CHECK(close(r.at(1), 2.5099975e-08));
  CHECK(close(r.at(3999), 9.9975000025e-05));
  CHECK(r.at(4000) == 1e-4);
  CHECK(close(r.at(100000), 5.64423209907e-05));
  CHECK(close(r.at(199999), 1.0000000006e-05));
  CHECK(close(warmup_cosine{.total = 250000}.at(200000), 1.89363870159e-05));
}

TEST_CASE("the fine-tuning rates of encoder and rest are the published ones") {
  auto const r = umbra_fine_tuning(5000);
  CHECK(r.rest.warm_up == 250);
  CHECK(r.encoder.delay == 1500);
  CHECK(r.encoder.warm_up == 175);
  struct row {
    index_t step;
    double encoder, rest;
  };
  for (auto const& [t, encoder, rest] : {row{0, 0, 2e-6},
                                         {249, 0, 5e-4},
                                         {1499, 0, 4.21053165e-4},
                                         {1500, 2.85714286e-7, 4.20933985e-4},
                                         {1674, 5e-5, 3.99138448e-4},
                                         {3000, 3.31809095e-5, 1.94856056e-4},
                                         {4999, 1.00001094e-6, 1.00000536e-5}}) {
    INFO("step " << t);
    CHECK(close(r.encoder.at(t), encoder, 5e-9));
    CHECK(close(r.rest.at(t), rest, 5e-9));
  }
  CHECK(r.encoder.at(5000) == 1e-6);  // stays at the minimum
  CHECK(r.encoder.at(9000) == 1e-6);
}
