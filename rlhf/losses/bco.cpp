#include "rlhf/losses/bco.h"

#include <utility>

#include "rlhf/core/error.h"

namespace rlhf {

void RunningMoments::update(const torch::Tensor& values) {
  if (values.numel() == 0) {
    return;
  }
  const auto batch = values.detach().to(torch::kDouble);
  const double n = static_cast<double>(batch.numel());
  const double batch_mean = batch.mean().item<double>();
  const double squares = (batch - batch_mean).square().sum().item<double>();
  const double total = count + n;
  const double rise = batch_mean - mean;
  mean += rise * n / total;
  variance = (variance * count + squares + rise * rise * count * n / total) / total;
  count = total;
}

Json RunningMoments::to_json() const {
  return {{"mean", mean}, {"variance", variance}, {"count", count}};
}

RunningMoments RunningMoments::from_json(const Json& json) {
  RunningMoments moments;
  for (const auto& [key, number] : {std::pair<const char*, double*>{"mean", &moments.mean},
                                    {"variance", &moments.variance},
                                    {"count", &moments.count}}) {
    check(json.is_object() && json.contains(key) && json[key].is_number(), "running_moments",
          "an object with the numbers mean, variance and count was expected, got {}.", json.dump());
    *number = json[key].get<double>();
  }
  return moments;
}

}  // namespace rlhf
