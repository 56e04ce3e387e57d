#include "rlhf/losses/running_moments.h"

#include <ATen/ATen.h>

#include <utility>

#include "rlhf/core/error.h"

namespace rlhf {

void RunningMoments::update(const at::Tensor& values) {
  if (values.numel() == 0) {
    return;
  }
  const auto batch = values.detach().to(at::kDouble);
  const auto mean_of_batch = batch.mean();
  merge({.mean = mean_of_batch.item<double>(),
         .variance = (batch - mean_of_batch).square().mean().item<double>(),
         .count = static_cast<double>(batch.numel())});
}

void RunningMoments::merge(const RunningMoments& other) {
  if (other.count == 0.0) return;
  const double total = count + other.count;
  const double rise = other.mean - mean;
  mean += rise * other.count / total;
  variance = (variance * count + other.variance * other.count +
              rise * rise * count * other.count / total) /
             total;
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
