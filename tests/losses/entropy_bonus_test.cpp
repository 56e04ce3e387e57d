// The entropy lever, worked by hand.
#include "rlhf/losses/entropy_bonus.h"

#include <gtest/gtest.h>

#include "loss_checks.h"

namespace rlhf {
namespace {

using testing::numbers;

// Four entropies stand at places 0 to 3; (1 − ρ) · 3 lies between two of them or on one.
TEST(EntropyBonus, FloorOfTheTopShare) {
  const auto entropies = numbers({4, 1, 3, 2});
  EXPECT_DOUBLE_EQ(entropy_floor(entropies, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(entropy_floor(entropies, 1.0), 1.0);
  EXPECT_DOUBLE_EQ(entropy_floor(entropies, 0.0), 4.0);
  EXPECT_DOUBLE_EQ(entropy_floor(numbers({7}), 0.3), 7.0);
  EXPECT_EQ(entropy_floor(numbers({}), 0.3), INFINITY);
  EXPECT_THROW(entropy_floor(entropies, 1.5), Error);
}

TEST(EntropyBonus, TheCoefficientMovesWithinItsBounds) {
  const AdaptiveEntropy control{.least = 0.01, .most = 0.11, .delta = 0.02, .target = 0.2};
  EXPECT_DOUBLE_EQ(moved_coefficient(control, 0.05, /*entropy=*/0.15), 0.07);
  EXPECT_DOUBLE_EQ(moved_coefficient(control, 0.05, /*entropy=*/0.2), 0.07);
  EXPECT_DOUBLE_EQ(moved_coefficient(control, 0.05, /*entropy=*/0.25), 0.03);
  EXPECT_DOUBLE_EQ(moved_coefficient(control, 0.10, /*entropy=*/0.15), 0.11);
  EXPECT_DOUBLE_EQ(moved_coefficient(control, 0.02, /*entropy=*/0.25), 0.01);
}

TEST(EntropyBonus, ActsBelowItsTargetAlone) {
  const AdaptiveEntropy control;
  EXPECT_EQ(acting_coefficient(control, 0.3, std::nullopt), 0.0);
  EXPECT_EQ(acting_coefficient(control, 0.3, 0.2), 0.3);
  EXPECT_EQ(acting_coefficient(control, 0.3, 0.21), 0.0);
}

}  // namespace
}  // namespace rlhf
