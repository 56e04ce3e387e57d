#include "rlhf/losses/value_loss.h"

#include <ATen/ATen.h>

#include "rlhf/core/error.h"
#include "rlhf/math/masked.h"

namespace rlhf {
namespace {

void check_inputs(const ValueInputs& inputs, bool clips) {
  check(inputs.values.defined() && inputs.values.dim() == 1, "value_loss",
        "flat values were expected, got {}.",
        inputs.values.defined() ? fmt::format("({})", fmt::join(inputs.values.sizes(), ", "))
                                : "none");
  const auto fits = [&](const at::Tensor& tensor, const char* name, at::ScalarType type) {
    check(
        tensor.defined() && tensor.sizes() == inputs.values.sizes() && tensor.scalar_type() == type,
        "value_loss", "{} ({}) of type {} was expected, got {}.", name, inputs.values.numel(),
        toString(type),
        tensor.defined() ? fmt::format("({}) of type {}", fmt::join(tensor.sizes(), ", "),
                                       toString(tensor.scalar_type()))
                         : "none");
  };
  const auto type = inputs.values.scalar_type();
  fits(inputs.returns, "returns", type);
  fits(inputs.mask, "mask", at::kBool);
  if (clips) fits(inputs.old_values, "old_values", type);
}

ValueMetrics metrics_of(const at::Tensor& values, const at::Tensor& returns,
                        const at::Tensor& clipped, const at::Tensor& mask) {
  const auto v = values.detach().masked_select(mask).to(at::kDouble);
  const auto r = returns.detach().masked_select(mask).to(at::kDouble);
  ValueMetrics metrics;
  metrics.tokens = static_cast<double>(v.numel());
  if (clipped.defined())
    metrics.clipped = static_cast<double>(clipped.logical_and(mask).sum().item<int64_t>());
  metrics.values = v.sum().item<double>();
  metrics.squares = (v - r).square().sum().item<double>();
  metrics.returns.update(r);
  metrics.residuals.update(r - v);
  return metrics;
}

}  // namespace

void ValueMetrics::add(const ValueMetrics& other) {
  tokens += other.tokens;
  clipped += other.clipped;
  values += other.values;
  squares += other.squares;
  returns.merge(other.returns);
  residuals.merge(other.residuals);
}

std::optional<double> ValueMetrics::explained_variance() const {
  constexpr double kRounding =
      1e-12;  // of a mean in double, relative; fp32 returns stand apart more
  if (returns.variance <= kRounding * kRounding * returns.mean * returns.mean) return std::nullopt;
  return 1 - residuals.variance / returns.variance;
}

ValueLossResult value_loss(const ValueInputs& inputs, std::optional<double> cliprange_value,
                           double tokens) {
  const double range = cliprange_value.value_or(0.0);
  check(range >= 0, "value_loss", "a cliprange_value of at least 0 was expected, got {}.", range);
  check_inputs(inputs, /*clips=*/range > 0);
  // 0 in place of what the mask leaves out: 0 times the slope of a NaN would be NaN.
  const auto zero = at::zeros({}, inputs.values.options());
  const auto kept = [&](const at::Tensor& values) { return at::where(inputs.mask, values, zero); };
  const auto values = kept(inputs.values);
  const auto returns = kept(inputs.returns).detach();
  auto losses = (values - returns).square();
  at::Tensor clipped;
  if (range > 0) {
    const auto old = kept(inputs.old_values).detach();
    const auto near = at::clamp(values, old - range, old + range);
    const auto bound = (near - returns).square();
    clipped = bound.gt(losses);
    losses = at::max(losses, bound);
  }
  const auto mean =
      aggregate(Aggregation::token_mean, losses, inputs.mask, /*sequence=*/{}, {.tokens = tokens});
  return {.loss = mean / 2, .metrics = metrics_of(values, returns, clipped, inputs.mask)};
}

}  // namespace rlhf
