// The recorded cases of tools/make_math_goldens.py, as tensors.
#pragma once

#include <ATen/ATen.h>

#include <fstream>
#include <string>
#include <vector>

#include "rlhf/core/json.h"
#include "rlhf/math/linear_logprobs.h"

namespace rlhf::testing {

inline at::Tensor to_tensor(const Json& json) {
  if (json.is_array() && !json.empty() && json[0].is_array()) {
    std::vector<at::Tensor> rows;
    for (const auto& row : json) {
      rows.push_back(to_tensor(row));
    }
    return at::stack(rows);
  }
  const auto numbers =
      json.is_array() ? json.get<std::vector<double>>() : std::vector<double>{json.get<double>()};
  const auto flat = at::tensor(numbers, at::kDouble);
  return json.is_array() ? flat : flat.squeeze(0);
}

struct HeadCase {
  std::string name;
  at::Tensor hidden;
  Head head;
  at::Tensor targets;
  LogprobOptions options;
  Json json;

  at::Tensor operator[](const char* key) const { return to_tensor(json[key]); }
};

/// Every recorded case, its leaves requiring gradients, in `type`.
inline std::vector<HeadCase> head_cases(at::ScalarType type = at::kDouble) {
  std::ifstream file(RLHF_FIXTURES "/math/head.json");
  std::vector<HeadCase> cases;
  for (const auto& json : Json::parse(file)) {
    HeadCase c;
    c.name = json["name"];
    c.json = json;
    c.hidden = to_tensor(json["hidden"]).to(type).requires_grad_();
    c.head.weight = to_tensor(json["weight"]).to(type).requires_grad_();
    if (!json["bias"].is_null()) {
      c.head.bias = to_tensor(json["bias"]).to(type).requires_grad_();
    }
    c.head.logit_scale = json["logit_scale"];
    c.head.softcap = json["softcap"];
    c.targets = to_tensor(json["targets"]).to(at::kLong);
    c.options.temperature = json["temperature"];
    c.options.entropy = true;
    c.options.top1 = true;
    cases.push_back(c);
  }
  return cases;
}

inline double difference(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) {
    return INFINITY;
  }
  return a.numel() == 0 ? 0.0 : (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

/// Largest difference between the gradients of a case's leaves and a recorded {hidden, weight,
/// bias}.
inline double gradient_difference(const HeadCase& c, const Json& recorded) {
  double worst = difference(c.hidden.grad(), to_tensor(recorded["hidden"]));
  worst = std::max(worst, difference(c.head.weight.grad(), to_tensor(recorded["weight"])));
  if (c.head.bias.defined()) {
    worst = std::max(worst, difference(c.head.bias.grad(), to_tensor(recorded["bias"])));
  }
  return worst;
}

inline void clear_gradients(HeadCase& c) {
  c.hidden.mutable_grad().reset();
  c.head.weight.mutable_grad().reset();
  if (c.head.bias.defined()) {
    c.head.bias.mutable_grad().reset();
  }
}

}  // namespace rlhf::testing
