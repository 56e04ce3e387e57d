#include "rlhf/rewards/estimates.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

TEST(PassAtK, by_counting) {
  EXPECT_DOUBLE_EQ(pass_at_k(4, 1, 2), 0.5);     // 1 - C(3,2)/C(4,2) = 1 - 3/6
  EXPECT_DOUBLE_EQ(pass_at_k(5, 2, 3), 0.9);     // 1 - C(3,3)/C(5,3) = 1 - 1/10
  EXPECT_NEAR(pass_at_k(10, 3, 1), 0.3, 1e-15);  // c / n
  EXPECT_NEAR(pass_at_k(200, 7, 100), 1 - 0.0070089,
              1e-7);  // C(193,100)/C(200,100) = Π_{i=0..6} (100-i)/(200-i) = 0.0070089
  EXPECT_EQ(pass_at_k(4, 0, 4), 0.0);
  EXPECT_EQ(pass_at_k(4, 1, 4), 1.0);
  EXPECT_EQ(pass_at_k(4, 3, 2), 1.0);  // two samples cannot both be the one wrong
  EXPECT_THROW(pass_at_k(4, 1, 5), Error);
}

TEST(Wilson, by_the_formula) {
  // z² = 3.8415. 8 of 10: centre (0.8 + 0.19207) / 1.38415 = 0.71674, half 1.95996 / 1.38415 ·
  // sqrt(0.016 + 0.0096036) = 0.22658.
  EXPECT_NEAR(wilson_interval(8, 10).low, 0.49016, 1e-5);
  EXPECT_NEAR(wilson_interval(8, 10).high, 0.94332, 1e-5);
  // 0 of 10: 0 to z² / (n + z²) = 3.84146 / 13.84146.
  EXPECT_EQ(wilson_interval(0, 10).low, 0.0);
  EXPECT_NEAR(wilson_interval(0, 10).high, 0.27753, 1e-5);
  EXPECT_EQ(wilson_interval(10, 10).high, 1.0);
}

TEST(Bootstrap, approaches_the_normal_interval) {
  // 400 values, half 0.25 and half 0.75: standard error 0.25 / 20 = 0.0125, half-width 0.0245.
  std::vector<double> values(400, 0.25);
  std::fill(values.begin() + 200, values.end(), 0.75);
  const Bounds interval = bootstrap_interval(values);
  EXPECT_NEAR(interval.low, 0.5 - 0.0245,
              0.002);  // the quantiles of 10,000 resamples are good to 0.001
  EXPECT_NEAR(interval.high, 0.5 + 0.0245, 0.002);
  const Bounds constant = bootstrap_interval(std::vector<double>(5, 0.5));
  EXPECT_EQ(constant.low, 0.5);
  EXPECT_EQ(constant.high, 0.5);
}

TEST(Estimate, names_its_method) {
  EXPECT_EQ(estimate(std::vector<double>{0, 1, 1}).method, "wilson");
  EXPECT_EQ(estimate(std::vector<double>{0, 0.5, 1}).method, "bootstrap over prompts");
  EXPECT_DOUBLE_EQ(estimate(std::vector<double>{0, 0.5, 1}).mean, 0.5);
}

}  // namespace
}  // namespace rlhf
