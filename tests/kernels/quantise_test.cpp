// Maps: tools/make_quantise_goldens.py (bitsandbytes). Codes: against a search for the nearest value
// over all 256 in double.
#include "rlhf/kernels/quantise.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "rlhf/core/error.h"
#include "rlhf/core/json.h"
#include "tests/kernels/quantise_case.h"

namespace rlhf {
namespace {

const std::vector<const DynamicMap*>& maps() {
  static const std::vector<const DynamicMap*> both = {&signed_dynamic_map(),
                                                      &unsigned_dynamic_map()};
  return both;
}

/// The first of the values that are nearest.
int64_t nearest_of_all(const DynamicMap& map, float u) {
  const auto distance = [&](float value) {
    return std::abs(static_cast<double>(value) - static_cast<double>(u));
  };
  const auto found = std::min_element(map.values.begin(), map.values.end(),
                                      [&](float a, float b) { return distance(a) < distance(b); });
  return found - map.values.begin();
}

/// Every bound and its neighbours, every power of two and its neighbours, and the ends.
std::vector<float> hard_numbers(const DynamicMap& map) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> points(map.bounds.begin(), map.bounds.end() - 1);
  for (int exponent = -149; exponent <= 0; ++exponent) points.push_back(std::ldexp(1.0F, exponent));
  points.push_back(0.0F);
  std::vector<float> all;
  for (const float point : points) {
    for (const float sign : {1.0F, -1.0F}) {
      for (const float to : {-kInfinity, kInfinity})
        all.push_back(sign * std::nextafter(point, to));
      all.push_back(sign * point);
    }
  }
  std::erase_if(all, [&](float u) { return std::abs(u) > 1.0F || (!map.is_signed && u < 0.0F); });
  return all;
}

struct Quantised {
  at::Tensor codes;
  at::Tensor absmax;
};

template <class Fn>
Quantised quantised(Fn fn, const DynamicMap& map, const at::Tensor& x) {
  Quantised made{.codes = at::zeros(x.sizes(), at::kByte),
                 .absmax = at::zeros({quantised_blocks(x.numel())})};
  fn(map, x, made.codes, made.absmax);
  return made;
}

at::Tensor spread(const DynamicMap& map, int64_t n, uint64_t seed) {
  at::manual_seed(seed);
  // Sizes over some ten decades within every block.
  const auto x = at::randn({n}) * at::exp(4 * at::randn({n}));
  return map.is_signed ? x : x.abs();
}

TEST(DynamicMap, HasTheValuesOfBitsandbytes) {
  for (const DynamicMap* map : maps()) {
    const Json& golden = testing::quantise_goldens().at(map->is_signed ? "signed" : "unsigned");
    ASSERT_EQ(golden.size(), 256U);
    for (size_t i = 0; i < 256; ++i) {
      const auto value = golden[i].get<double>();
      // Two roundings of fp32 on their way.
      EXPECT_NEAR(static_cast<double>(map->values[i]), value, 2e-7 * std::abs(value)) << i;
    }
  }
}

TEST(Quantise, TakesTheNearestValueAndOfTwoTheLower) {
  for (const DynamicMap* map : maps()) {
    auto numbers = hard_numbers(*map);
    const auto more = (spread(*map, 20000, 5) / 50).clamp(-1, 1);
    numbers.insert(numbers.end(), more.const_data_ptr<float>(),
                   more.const_data_ptr<float>() + more.numel());
    // A one in each block makes it its own factor.
    std::vector<float> blocks;
    for (const float u : numbers) {
      if (blocks.size() % kQuantisedBlock == 0) blocks.push_back(1.0F);
      blocks.push_back(u);
    }
    const auto made = quantised(quantise_blockwise, *map, at::tensor(blocks, at::kFloat));
    EXPECT_TRUE(made.absmax.equal(at::ones_like(made.absmax)));
    for (size_t i = 0; i < blocks.size(); ++i) {
      ASSERT_EQ(made.codes[static_cast<int64_t>(i)].item<int64_t>(),
                nearest_of_all(*map, blocks[i]))
          << blocks[i];
    }
  }
}

TEST(Quantise, EqualsThePlainForm) {
  for (const DynamicMap* map : maps()) {
    for (const int64_t n : {0, 1, 15, 255, 256, 257, 70001}) {
      const auto x = spread(*map, n, 7);
      const auto fast = quantised(quantise_blockwise, *map, x);
      const auto slow = quantised(reference::quantise_blockwise, *map, x);
      EXPECT_TRUE(fast.codes.equal(slow.codes)) << n;
      EXPECT_TRUE(fast.absmax.equal(slow.absmax)) << n;
      EXPECT_TRUE(dequantise_blockwise(*map, fast.codes, fast.absmax)
                      .equal(reference::dequantise_blockwise(*map, slow.codes, slow.absmax)))
          << n;
    }
  }
}

// The bound of quantise.h, and a fp32 rounding of each of three operations.
TEST(Quantise, ComesBackWithinItsBound) {
  for (const DynamicMap* map : maps()) {
    const auto x = spread(*map, 20000, 9);
    const auto made = quantised(quantise_blockwise, *map, x);
    const auto back = dequantise_blockwise(*map, made.codes, made.absmax);
    for (int64_t i = 0; i < x.numel(); ++i) {
      const double most = made.absmax[i / kQuantisedBlock].item<double>();
      const double size = std::abs(x[i].item<double>());
      const double decade = std::max(0.0, 6.0 + std::ceil(std::log10(size / most)));
      const double fractions = std::pow(2.0, map->is_signed ? decade : decade + 1.0);
      const double bound =
          size < most * 1e-7 ? 1e-7 : 0.45 * std::pow(10.0, decade - 6.0) / fractions;
      ASSERT_LE(std::abs(back[i].item<double>() - x[i].item<double>()), most * bound + 3e-7 * size)
          << size / most;
    }
  }
}

TEST(Quantise, ZerosStayZeros) {
  for (const DynamicMap* map : maps()) {
    const auto made = quantised(quantise_blockwise, *map, at::zeros({300}));
    EXPECT_TRUE(made.absmax.equal(at::zeros({2})));
    EXPECT_TRUE(made.codes.eq(map->nearest(0.0F)).all().item<bool>());
    EXPECT_TRUE(dequantise_blockwise(*map, made.codes, made.absmax).equal(at::zeros({300})));
    // As a state begins: codes 0, which is −0.99 in the signed map, of a factor of 0.
    EXPECT_TRUE(dequantise_blockwise(*map, at::zeros({5}, at::kByte), at::zeros({1}))
                    .equal(at::zeros({5})));
  }
}

TEST(Quantise, RefusesWhatDoesNotFit) {
  const DynamicMap& map = signed_dynamic_map();
  const auto codes = at::zeros({300}, at::kByte);
  EXPECT_THROW(quantise_blockwise(map, at::ones({300}), codes, at::zeros({1})), Error);
  EXPECT_THROW(quantise_blockwise(map, at::ones({299}), codes, at::zeros({2})), Error);
  EXPECT_THROW(quantise_blockwise(map, at::ones({300}, at::kDouble), codes, at::zeros({2})), Error);
  EXPECT_THROW(dequantise_blockwise(map, at::zeros({300}), at::zeros({2})), Error);
}

}  // namespace
}  // namespace rlhf
