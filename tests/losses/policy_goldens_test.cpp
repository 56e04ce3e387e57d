// Policy-gradient objectives against tools/make_policy_goldens.py: values, gradients and metrics in
// double, values and gradients in fp32.
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <string>

#include "loss_checks.h"
#include "rlhf/losses/entropy_bonus.h"
#include "rlhf/losses/policy_loss.h"

namespace rlhf {
namespace {

using testing::difference;
using testing::recorded;

// In double the two round differently, most where w = e^7 is raised to a power. In fp32 a
// log-ratio of sums of seven tokens carries 1e-6, times slopes up to 20.
double tolerance(at::ScalarType type, double size) {
  return std::max(1.0, size) * (type == at::kDouble ? 1e-12 : 5e-5);
}

const Json& goldens() {
  static const Json json = Json::parse(std::ifstream(RLHF_FIXTURES "/losses/policy.json"));
  return json;
}

template <class E>
void read(const Json& json, const char* key, E& value) {
  for (size_t i = 0; json.contains(key) && i < EnumNames<E>::names.size(); ++i) {
    if (json[key].get<std::string>() == EnumNames<E>::names[i]) value = static_cast<E>(i);
  }
}

PolicyLossOptions options_of(const Json& json) {
  PolicyLossOptions options;
  const auto number = [&](const char* key, auto& value) {
    if (json.contains(key) && !json[key].is_null()) value = json[key].get<double>();
  };
  read(json, "loss_type", options.loss_type);
  read(json, "importance_sampling_level", options.importance_sampling_level);
  number("epsilon", options.epsilon);
  number("epsilon_high", options.epsilon_high);
  number("delta", options.delta);
  number("beta", options.beta);
  number("sapo_temperature_pos", options.sapo_temperature_pos);
  number("sapo_temperature_neg", options.sapo_temperature_neg);
  number("vespo_k_pos", options.vespo_k_pos);
  number("vespo_k_neg", options.vespo_k_neg);
  number("vespo_lambda_pos", options.vespo_lambda_pos);
  number("vespo_lambda_neg", options.vespo_lambda_neg);
  number("gmpo_clip", options.gmpo_clip);
  number("off_policy_mask_threshold", options.off_policy_mask_threshold);
  options.use_bias_correction_kl = json.value("use_bias_correction_kl", true);
  return options;
}

PolicyInputs inputs_of(const Json& c, at::ScalarType type) {
  const Json& json = c["inputs"];
  const auto at = [&](const char* key) { return recorded(json[key], type); };
  PolicyInputs inputs;
  inputs.logprobs = at("logprobs").requires_grad_();
  if (c["old"].get<bool>()) inputs.old_logprobs = at("old");
  inputs.ref_logprobs = at("ref");
  inputs.advantages = at("advantages");
  inputs.mask = at("mask").to(at::kBool);
  inputs.sequence = at("sequence").to(at::kLong);
  inputs.sequences = c["sequences"].get<int64_t>();
  if (const double share = c["top_entropy_quantile"]; share < 1) {
    const auto entropies = recorded(json["entropies"]);
    inputs.keep = entropies.ge(entropy_floor(entropies.masked_select(inputs.mask), share));
  }
  return inputs;
}

StepCounts counts_of(const Json& json) {
  return {.tokens = json["tokens"], .sequences = json["sequences"], .constant = json["constant"]};
}

TEST(PolicyGoldens, ValuesAndGradients) {
  std::set<std::string> seen;
  for (const auto type : {at::kDouble, at::kFloat}) {
    for (const auto& c : goldens()["cases"]) {
      const auto inputs = inputs_of(c, type);
      const auto loss = policy_loss(options_of(c["options"]), inputs, counts_of(c["counts"])).loss;
      EXPECT_EQ(loss.scalar_type(), type);
      loss.backward();
      const double wanted = c["loss"];
      EXPECT_NEAR(loss.item<double>(), wanted, tolerance(type, std::abs(wanted)))
          << c["name"] << " " << toString(type);
      const auto gradient = recorded(c["grad"]);
      EXPECT_LT(difference(inputs.logprobs.grad(), gradient),
                tolerance(type, gradient.abs().max().item<double>()))
          << c["name"] << " " << toString(type);
      seen.insert(c["options"].value("loss_type", "dapo"));
    }
  }
  EXPECT_EQ(seen.size(), EnumNames<PolicyLoss>::names.size());
}

double metric(const PolicyMetrics& found, const std::string& name) {
  if (name == "kl") return found.kl / found.tokens;
  if (name == "clip_ratio/low_mean") return found.low / found.ratios;
  if (name == "clip_ratio/high_mean") return found.high / found.ratios;
  if (name == "clip_ratio/region_mean") return (found.low + found.high) / found.ratios;
  if (name == "clip_ratio/low_min") return found.low_min;
  if (name == "clip_ratio/high_max") return found.high_max;
  if (name == "cispo_clip_ratio") return found.capped / found.ratios;
  if (name == "vespo/phi_seq_mean") return found.weight / found.sequences;
  throw std::runtime_error("unknown " + name);
}

TEST(PolicyGoldens, Metrics) {
  for (const auto& c : goldens()["cases"]) {
    const auto inputs = inputs_of(c, at::kDouble);
    const auto found =
        policy_loss(options_of(c["options"]), inputs, counts_of(c["counts"])).metrics;
    for (const auto& [name, wanted] : c["metrics"].items()) {
      EXPECT_NEAR(metric(found, name), wanted.get<double>(), tolerance(at::kDouble, 1.0))
          << c["name"] << " " << name;
    }
  }
}

TEST(PolicyGoldens, EntropyFloors) {
  const Json& json = goldens()["entropy"];
  const auto entropies = recorded(json["entropies"]);
  for (const auto& c : json["floors"]) {
    EXPECT_NEAR(entropy_floor(entropies, c["share"]), c["floor"].get<double>(), 1e-14)
        << c["share"];  // one product and one sum of numbers below 3
  }
}

}  // namespace
}  // namespace rlhf
