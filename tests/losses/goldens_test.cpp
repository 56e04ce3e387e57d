// Every loss against tools/make_loss_goldens.py: values and gradients in double, and in fp32.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <string>

#include "loss_checks.h"
#include "rlhf/losses/bco.h"
#include "rlhf/losses/bradley_terry.h"
#include "rlhf/losses/unpaired.h"

namespace rlhf {
namespace {

using testing::difference;
using testing::recorded;

// In double the formulas round differently: steep ones (e^-D with D near −4, squares near 1e4) lose
// four digits of sixteen. In fp32 the sums near 50 that make the log-ratios carry 4e-6 each, times
// slopes up to 60.
double tolerance(at::ScalarType type, const at::Tensor& wanted) {
  const double size = std::max(1.0, wanted.abs().max().item<double>());
  return size * (type == at::kDouble ? 1e-12 : 5e-5);
}

const Json& goldens() {
  static const Json json = Json::parse(std::ifstream(RLHF_FIXTURES "/losses/losses.json"));
  return json;
}

template <class E>
E named(const Json& name) {
  for (size_t i = 0; i < EnumNames<E>::names.size(); ++i) {
    if (name.get<std::string>() == EnumNames<E>::names[i]) {
      return static_cast<E>(i);
    }
  }
  throw std::runtime_error("unknown " + name.dump());
}

DpoLossOptions options_of(const Json& json) {
  DpoLossOptions options;
  options.beta = json["beta"];
  options.label_smoothing = json["label_smoothing"];
  options.discopop_tau = json["discopop_tau"];
  options.f_divergence = named<FDivergence>(json["f_divergence"]);
  options.f_alpha = json["f_alpha"];
  options.simpo_gamma = json["simpo_gamma"];
  return options;
}

TEST(LossGoldens, PairwiseValuesAndGradients) {
  std::set<std::string> seen;
  for (const auto type : {at::kDouble, at::kFloat}) {
    for (const auto& c : goldens()["pairs"]) {
      const auto& json = c["pairs"];
      const auto at = [&](const char* key) { return recorded(json[key], type); };
      const PairLogps pairs{at("chosen").requires_grad_(),
                            at("rejected").requires_grad_(),
                            at("ref_chosen"),
                            at("ref_rejected"),
                            at("chosen_tokens"),
                            at("rejected_tokens")};
      const auto losses = dpo_loss(named<DpoLoss>(c["loss"]), pairs, options_of(c["options"]));
      EXPECT_EQ(losses.scalar_type(), type);
      (losses * at("weights")).sum().backward();
      const auto expect = [&](const at::Tensor& got, const char* key) {
        const auto wanted = recorded(c[key]);
        EXPECT_LT(difference(got, wanted), tolerance(type, wanted))
            << c["loss"] << " " << c["options"] << " " << key << " " << toString(type);
      };
      expect(losses, "losses");
      expect(pairs.chosen.grad(), "grad_chosen");
      expect(pairs.rejected.grad(), "grad_rejected");
      seen.insert(c["loss"]);
    }
  }
  EXPECT_EQ(seen.size(), testing::pair_losses().size());
}

TEST(LossGoldens, UnpairedValuesAndGradients) {
  std::set<std::string> seen;
  for (const auto type : {at::kDouble, at::kFloat}) {
    for (const auto& c : goldens()["unpaired"]) {
      const auto ratios = recorded(c["log_ratios"], type).requires_grad_();
      const auto& json = c["options"];
      const UnpairedLossOptions options{json["beta"], json["desirable_weight"],
                                        json["undesirable_weight"]};
      const auto losses =
          unpaired_loss(named<UnpairedLoss>(c["loss"]), ratios,
                        recorded(c["desirable"]).to(at::kBool), json["anchor"], options);
      EXPECT_EQ(losses.scalar_type(), type);
      (losses * recorded(c["weights"], type)).sum().backward();
      const auto wanted = recorded(c["losses"]);
      const auto gradient = recorded(c["grad"]);
      EXPECT_LT(difference(losses, wanted), tolerance(type, wanted)) << c["loss"];
      EXPECT_LT(difference(ratios.grad(), gradient), tolerance(type, gradient)) << c["loss"];
      seen.insert(c["loss"]);
    }
  }
  EXPECT_EQ(seen.size(), EnumNames<UnpairedLoss>::names.size());
}

TEST(LossGoldens, BradleyTerryValuesAndGradients) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    for (const auto& c : goldens()["rewards"]) {
      const auto chosen = recorded(c["chosen"], type).requires_grad_();
      const auto rejected = recorded(c["rejected"], type).requires_grad_();
      const auto margin = c["margin"].is_null() ? at::Tensor() : recorded(c["margin"], type);
      const auto losses = bradley_terry_loss(chosen, rejected, margin, c["centring"]);
      (losses * recorded(c["weights"], type)).sum().backward();
      const auto expect = [&](const at::Tensor& got, const char* key) {
        const auto wanted = recorded(c[key]);
        EXPECT_LT(difference(got, wanted), tolerance(type, wanted)) << key;
      };
      expect(losses, "losses");
      expect(chosen.grad(), "grad_chosen");
      expect(rejected.grad(), "grad_rejected");
    }
  }
}

// Three batches through TRL 1.12's BCOTrainer: the shift follows, and with it the losses, which are
// TRL's own to fp32.
TEST(LossGoldens, BcoRunWithItsRunningMean) {
  const auto& run = goldens()["bco"];
  const double beta = run["beta"];
  RunningMoments moments;
  for (size_t i = 0; i < run["batches"].size(); ++i) {
    const auto& step = run["steps"][i];
    const auto chosen = recorded(run["batches"][i]["chosen"]);
    const auto rejected = recorded(run["batches"][i]["rejected"]);
    const auto ratios = at::cat({chosen, rejected});
    const auto desirable =
        at::arange(ratios.size(0), at::kLong) < at::full({}, chosen.size(0), at::kLong);
    moments.update(beta * ratios);
    EXPECT_NEAR(moments.mean, step["mean"], 1e-14);
    EXPECT_NEAR(moments.variance, step["variance"], 1e-14);
    EXPECT_EQ(moments.count, step["count"]);
    const auto losses =
        unpaired_loss(UnpairedLoss::bco, ratios, desirable, moments.mean, {.beta = beta});
    EXPECT_LT(difference(losses, recorded(step["losses"])), 1e-6);
    moments = RunningMoments::from_json(Json::parse(moments.to_json().dump()));  // as a resume does
  }
}

}  // namespace
}  // namespace rlhf
