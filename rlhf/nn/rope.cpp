#include "rlhf/nn/rope.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <span>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

/// 0, 2/Dr, 4/Dr, …: (Dr / 2) fp32.
at::Tensor exponents(int64_t width) {
  return at::arange(0, width, 2, at::kFloat) / static_cast<double>(width);
}

at::Tensor plain_frequencies(double theta, int64_t width) {
  return at::pow(at::Scalar(theta), exponents(width)).reciprocal();
}

at::Tensor dynamic_frequencies(const RopeConfig& config, int64_t length) {
  const auto seen = static_cast<double>(std::max(length, config.context));
  const auto width = static_cast<double>(config.width);
  const double stretch =
      config.factor * seen / static_cast<double>(config.context) - (config.factor - 1.0);
  return plain_frequencies(config.theta * std::pow(stretch, width / (width - 2.0)), config.width);
}

at::Tensor llama3_frequencies(const RopeConfig& config) {
  const auto plain = plain_frequencies(config.theta, config.width);
  const auto trained = static_cast<double>(config.original_context);
  const double low = trained / config.low_freq_factor;
  const double high = trained / config.high_freq_factor;
  const auto wavelength = (2.0 * std::numbers::pi) * plain.reciprocal();
  const auto slowed = at::where(wavelength > low, plain / config.factor, plain);
  const auto smooth = (trained * wavelength.reciprocal() - config.low_freq_factor) /
                      (config.high_freq_factor - config.low_freq_factor);
  const auto blend = (1.0 - smooth) * slowed / config.factor + smooth * slowed;
  const auto between =
      (wavelength < high).logical_not().logical_and((wavelength > low).logical_not());
  return at::where(between, blend, slowed);
}

at::Tensor yarn_frequencies(const RopeConfig& config) {
  const auto width = static_cast<double>(config.width);
  // The channel that turns `rotations` times within the trained context.
  const auto channel = [&](double rotations) {
    return width *
           std::log(static_cast<double>(config.original_context) /
                    (rotations * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(config.theta));
  };
  double low = channel(config.beta_fast);
  double high = channel(config.beta_slow);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, width - 1.0);
  if (low == high) high += 0.001;
  const auto period = at::pow(at::Scalar(config.theta), exponents(config.width));
  const auto ramp =
      at::clamp((at::arange(config.width / 2, at::kFloat) - low) / (high - low), 0, 1);
  const auto extrapolated = 1.0 - ramp;
  return (config.factor * period).reciprocal() * (1.0 - extrapolated) +
         period.reciprocal() * extrapolated;
}

at::Tensor longrope_frequencies(const RopeConfig& config, int64_t length) {
  const auto& factors = length > config.original_context ? config.long_factor : config.short_factor;
  const auto stretch = at::tensor(factors, at::kDouble).to(at::kFloat);
  return (stretch * at::pow(at::Scalar(config.theta), exponents(config.width))).reciprocal();
}

/// positions (T) times f, row by row where rows of different length have different f.
at::Tensor angles(const RopeConfig& config, const at::Tensor& positions) {
  const auto turn = [&](const at::Tensor& some, int64_t length) {
    return some.to(at::kFloat).unsqueeze(1) * rope_frequencies(config, length).to(some.device());
  };
  const int64_t limit = config.length_limit();
  if (limit == std::numeric_limits<int64_t>::max() || positions.numel() == 0)
    return turn(positions, 0);
  const auto host = positions.to(at::kCPU).contiguous();
  const std::span<const int64_t> at(host.const_data_ptr<int64_t>(),
                                    static_cast<size_t>(host.numel()));
  if (*std::max_element(at.begin(), at.end()) < limit) return turn(positions, 0);
  std::vector<at::Tensor> rows;
  for (size_t begin = 0; begin < at.size();) {
    size_t end = begin + 1;
    while (end < at.size() && at[end] == at[end - 1] + 1) ++end;
    const auto row = positions.slice(0, static_cast<int64_t>(begin), static_cast<int64_t>(end));
    rows.push_back(turn(row, at[end - 1] + 1));
    begin = end;
  }
  return at::cat(rows);
}

}  // namespace

int64_t RopeConfig::length_limit() const {
  if (type == RopeType::dynamic) return context;
  if (type == RopeType::longrope) return original_context;
  return std::numeric_limits<int64_t>::max();
}

at::Tensor rope_frequencies(const RopeConfig& config, int64_t length) {
  switch (config.type) {
    case RopeType::plain:
      return plain_frequencies(config.theta, config.width);
    case RopeType::linear:
      return plain_frequencies(config.theta, config.width) / config.factor;
    case RopeType::dynamic:
      return dynamic_frequencies(config, length);
    case RopeType::llama3:
      return llama3_frequencies(config);
    case RopeType::yarn:
      return yarn_frequencies(config);
    case RopeType::longrope:
      return longrope_frequencies(config, length);
  }
  fail("rope_frequencies", "an unknown rope type.");
}

RopeTables rope_tables(const RopeConfig& config, const at::Tensor& positions,
                       at::ScalarType dtype) {
  const auto angle = angles(config, positions);
  return {(angle.cos() * config.attention_factor).to(dtype),
          (angle.sin() * config.attention_factor).to(dtype)};
}

}  // namespace rlhf
