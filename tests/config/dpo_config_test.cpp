#include "rlhf/config/dpo_config.h"

#include <gtest/gtest.h>

#include "tests/config/read.h"

namespace rlhf {
namespace {

using Losses = std::vector<DpoLoss>;
using Weights = std::vector<double>;

TEST(DpoConfig, EveryLossAloneRunsWithItsDefaults) {
  for (const auto name : EnumNames<DpoLoss>::names) {
    const bool needs_epsilon = name == "exo_pair";
    const Texts args = {"--loss_type", std::string(name)};
    EXPECT_EQ(problems_of<DpoConfig>(args).size(), needs_epsilon ? 1U : 0U) << name;
  }
}

TEST(DpoConfig, OptionsThatALossUses) {
  for (const Texts& args : std::vector<Texts>{
           {"--loss_type", "sigmoid", "--label_smoothing", "0.1"},
           {"--loss_type", "robust", "--label_smoothing", "0.1"},
           {"--loss_type", "exo_pair", "--label_smoothing", "1e-3"},
           {"--loss_type", "aot", "--label_smoothing", "0.1"},
           {"--loss_type", "cpo", "--label_smoothing", "0.1", "--cpo_alpha", "0.5"},
           {"--loss_type", "simpo", "--cpo_alpha", "0", "--simpo_gamma", "1", "--beta", "2.5"},
           {"--loss_type", "orpo", "--beta", "0.05"},
           {"--loss_type", "discopop", "--discopop_tau", "0.1"},
           {"--loss_type", "sigmoid", "bco_pair", "sft", "--loss_weights", "0.8", "0.2", "1"},
           {"--loss_type", "hinge", "exo_pair", "--label_smoothing", "0.1"},
           {"--loss_type", "sigmoid", "sft", "--f_divergence_type", "js_divergence"},
           {"--f_divergence_type", "alpha_divergence", "--f_alpha_divergence_coef", "2"},
           {"--ld_alpha", "0"},
           {"--ld_alpha", "1"},
           {"--use_weighting"},
           {"--loss_type", "apo_zero", "--reference_free"},
           {"--pref_ftx", "0.1"},
           {"--loss_type", "orpo", "--pref_ftx", "0.1"},
           {"--sync_ref_model", "--ref_model_mixup_alpha", "0.5", "--ref_model_sync_steps", "2"},
           {"--precompute_ref_log_probs", "--use_peft"},
           {"--ref_model_name_or_path", "sft"},
           {"--loss_type", "simpo", "--precompute_ref_log_probs", "false"},
       }) {
    EXPECT_EQ(problems_of<DpoConfig>(args), Texts{}) << fmt::format("{}", fmt::join(args, " "));
  }
}

TEST(DpoConfig, OptionsThatNoLossUsesAreNamed) {
  constexpr const char* kEpsilon =
      "loss_type {} does not use it. HINT: remove the key; it belongs to sigmoid, exo_pair, "
      "robust, "
      "aot, aot_unpaired, cpo, simpo.";
  std::vector<Rule> rules;
  for (const char* loss : {"hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "apo_zero",
                           "apo_down", "discopop", "sft", "sigmoid_norm", "orpo"}) {
    rules.push_back({{"--loss_type", loss, "--label_smoothing", "0.1"},
                     {"[--label_smoothing] " + fmt::format(fmt::runtime(kEpsilon), loss)}});
  }
  rules.push_back({{"--loss_type", "hinge", "ipo", "--label_smoothing", "0.1"},
                   {"[--label_smoothing] " + fmt::format(fmt::runtime(kEpsilon), "hinge, ipo")}});
  const auto belongs = [&](const Texts& args, const std::string& key, const std::string& loss,
                           const std::string& owners) {
    rules.push_back({args,
                     {fmt::format("[--{}] loss_type {} does not use it. HINT: remove the key; "
                                  "it belongs to {}.",
                                  key, loss, owners)}});
  };
  belongs({"--discopop_tau", "0.1"}, "discopop_tau", "sigmoid", "discopop");
  belongs({"--simpo_gamma", "1"}, "simpo_gamma", "sigmoid", "simpo");
  belongs({"--loss_type", "cpo", "--simpo_gamma", "1"}, "simpo_gamma", "cpo", "simpo");
  belongs({"--cpo_alpha", "0"}, "cpo_alpha", "sigmoid", "cpo, simpo");
  belongs({"--loss_type", "orpo", "--cpo_alpha", "0"}, "cpo_alpha", "orpo", "cpo, simpo");
  const std::string with_reference =
      "sigmoid, hinge, ipo, exo_pair, nca_pair, robust, bco_pair, sppo_hard, aot, aot_unpaired, "
      "apo_zero, apo_down, discopop, sigmoid_norm";
  for (const char* loss : {"sft", "cpo", "simpo", "orpo"}) {
    belongs({"--loss_type", loss, "--ld_alpha", "0.5"}, "ld_alpha", loss, with_reference);
    belongs({"--loss_type", loss, "--reference_free"}, "reference_free", loss, with_reference);
  }
  belongs(
      {"--loss_type", "sft", "--beta", "0.2"}, "beta", "sft",
      "sigmoid, hinge, ipo, exo_pair, nca_pair, robust, bco_pair, sppo_hard, aot, aot_unpaired, "
      "apo_zero, apo_down, discopop, sigmoid_norm, cpo, simpo, orpo");
  belongs(
      {"--loss_type", "sft", "--use_weighting"}, "use_weighting", "sft",
      "sigmoid, hinge, ipo, exo_pair, nca_pair, robust, bco_pair, sppo_hard, apo_zero, apo_down, "
      "discopop, sigmoid_norm, cpo, simpo, orpo");
  expect_rules<DpoConfig>(rules);
}

TEST(DpoConfig, Ranges) {
  for (const Texts& args : std::vector<Texts>{{"--beta", "0"},
                                              {"--beta", "-0.1"},
                                              {"--label_smoothing", "0.5"},
                                              {"--label_smoothing", "-0.1"},
                                              {"--discopop_tau", "0", "--loss_type", "discopop"},
                                              {"--ld_alpha", "1.5"},
                                              {"--ld_alpha", "-0.5"},
                                              {"--rpo_alpha", "-1"},
                                              {"--pref_ftx", "-1"},
                                              {"--cpo_alpha", "-1"},
                                              {"--simpo_gamma", "-1"},
                                              {"--loss_weights", "-1"},
                                              {"--max_length", "0"},
                                              {"--ref_model_mixup_alpha", "1.5"},
                                              {"--ref_model_sync_steps", "0"},
                                              {"--loss_type", "kto_pair"},
                                              {"--f_divergence_type", "kl"}}) {
    EXPECT_EQ(problems_of<DpoConfig>(args).size(), 1U) << fmt::format("{}", fmt::join(args, " "));
  }
}

TEST(DpoConfig, ListsOfLosses) {
  expect_rules<DpoConfig>({
      {{"--loss_type", "[]"},
       {"[--loss_type] expected a loss, got an empty list. HINT: the default is sigmoid."}},
      {{"--loss_type", "ipo", "sigmoid", "ipo"},
       {"[--loss_type] a loss is named twice in ipo, sigmoid, ipo. HINT: name it once and give its "
        "weight in loss_weights."}},
      {{"--loss_type", "sigmoid", "sft", "--loss_weights", "1"},
       {"[--loss_weights] expected a weight for each of 2 losses, got 1. HINT: loss_type is "
        "sigmoid, "
        "sft."}},
      {{"--loss_type", "sigmoid", "sft", "--loss_weights", "0", "0"},
       {"[--loss_weights] expected a weight above 0, got none. HINT: remove the key for a weight "
        "of "
        "1 each."}},
      {{"--loss_type", "simpo", "sigmoid"},
       {"[--loss_type] simpo has a likelihood term of its own and no reference: it stands alone, "
        "got "
        "simpo, sigmoid. HINT: weigh its terms with beta and cpo_alpha."}},
      {{"--loss_type", "orpo", "sft"},
       {"[--loss_type] orpo has a likelihood term of its own and no reference: it stands alone, "
        "got "
        "orpo, sft. HINT: weigh its terms with beta and cpo_alpha."}},
  });
  EXPECT_EQ(loss_weights_of(config_of<DpoConfig>({"--loss_type", "sigmoid", "sft"}).dpo),
            (Weights{1, 1}));
  EXPECT_EQ(config_of<DpoConfig>({"--loss_type", "ipo"}).dpo.loss_type, Losses{DpoLoss::ipo});
}

TEST(DpoConfig, Divergences) {
  const std::string allowed =
      "HINT: use reverse_kl; the others go with sigmoid, hinge, ipo, exo_pair, robust, discopop, "
      "sigmoid_norm.";
  std::vector<Rule> rules;
  for (const char* loss : {"nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero",
                           "apo_down", "sft", "cpo", "simpo", "orpo"}) {
    rules.push_back(
        {{"--loss_type", loss, "--f_divergence_type", "forward_kl"},
         {fmt::format("[--f_divergence_type] forward_kl is not defined for loss_type {}. "
                      "{}",
                      loss, allowed)}});
  }
  rules.push_back(
      {{"--loss_type", "sigmoid", "aot", "--f_divergence_type", "forward_kl"},
       {"[--f_divergence_type] forward_kl is not defined for loss_type aot. " + allowed}});
  rules.push_back({{"--f_alpha_divergence_coef", "2"},
                   {"[--f_alpha_divergence_coef] f_divergence_type is reverse_kl. HINT: set "
                    "f_divergence_type: alpha_divergence, or remove the key."}});
  rules.push_back({{"--f_divergence_type", "alpha_divergence", "--f_alpha_divergence_coef", "1"},
                   {"[--f_alpha_divergence_coef] expected a number other than 1, got 1. HINT: "
                    "f_divergence_type: reverse_kl is the limit there."}});
  rules.push_back({{"--f_divergence_type", "js_divergence", "--reference_free"},
                   {"[--f_divergence_type] reference_free leaves js_divergence nothing to diverge "
                    "from. HINT: keep one of the two."}});
  expect_rules<DpoConfig>(rules);
}

TEST(DpoConfig, SmoothingOfExoAndWeightsOfAot) {
  expect_rules<DpoConfig>({
      {{"--loss_type", "exo_pair"},
       {"[label_smoothing] loss_type exo_pair needs it above 0, got 0. HINT: its paper uses 0.001 "
        "(arXiv 2402.00856)."}},
      {{"--loss_type", "sigmoid", "aot_unpaired", "--use_weighting"},
       {"[--use_weighting] aot_unpaired sorts the pairs, so a weight has no pair to go to. HINT: "
        "keep one of the two."}},
  });
}

TEST(DpoConfig, RpoIsTheLossSft) {
  const DpoOptions plain = config_of<DpoConfig>({"--rpo_alpha", "0.5"}).dpo;
  EXPECT_EQ(plain.loss_type, (Losses{DpoLoss::sigmoid, DpoLoss::sft}));
  EXPECT_EQ(plain.loss_weights, (Weights{1, 0.5}));
  EXPECT_EQ(plain.rpo_alpha, std::nullopt);
  const DpoOptions several = config_of<DpoConfig>({"--loss_type", "ipo", "hinge", "--loss_weights",
                                                   "2", "3", "--rpo_alpha", "1"})
                                 .dpo;
  EXPECT_EQ(several.loss_type, (Losses{DpoLoss::ipo, DpoLoss::hinge, DpoLoss::sft}));
  EXPECT_EQ(several.loss_weights, (Weights{2, 3, 1}));
  expect_rules<DpoConfig>({
      {{"--loss_type", "sigmoid", "sft", "--rpo_alpha", "1"},
       {"[--rpo_alpha] it adds the loss sft, which loss_type has already. HINT: give the weight of "
        "sft in loss_weights."}},
      {{"--loss_type", "simpo", "--rpo_alpha", "1"},
       {"[--rpo_alpha] loss_type simpo has a likelihood term of its own. HINT: give its weight as "
        "cpo_alpha."}},
      {{"--loss_type", "orpo", "--rpo_alpha", "1"},
       {"[--rpo_alpha] loss_type orpo has a likelihood term of its own. HINT: remove the key."}},
      {{"--loss_weights", "1", "2", "--rpo_alpha", "1"},
       {"[--loss_weights] expected a weight for each of 1 losses, got 2. HINT: loss_type is "
        "sigmoid."}},
      {{"--rpo_alpha", "1", "--pref_ftx", "1"},
       {"[--pref_ftx] the loss sft adds the likelihood of the chosen answers already (rpo_alpha is "
        "read as it). HINT: keep one; sft is a mean over tokens, pref_ftx one over rows."}},
  });
}

TEST(DpoConfig, ReferenceKeysNeedAReference) {
  std::vector<Rule> rules;
  const std::vector<Texts> keys = {{"--ref_model_name_or_path", "sft"},
                                   {"--precompute_ref_log_probs", "true"},
                                   {"--sync_ref_model", "true"},
                                   {"--ref_model_mixup_alpha", "0.5"},
                                   {"--ref_model_sync_steps", "2"}};
  for (const auto& key : keys) {
    for (const auto& [more, reason] :
         {std::pair<Texts, std::string>{{"--loss_type", "simpo"},
                                        "loss_type simpo has no reference."},
          {{"--loss_type", "sft"}, "loss_type sft has no reference."},
          {{"--reference_free"}, "reference_free: true leaves the reference out."}}) {
      Texts args = key;
      args.insert(args.end(), more.begin(), more.end());
      rules.push_back({args, {fmt::format("[{}] {} HINT: remove the key.", key[0], reason)}});
    }
  }
  expect_rules<DpoConfig>(rules);
}

TEST(DpoConfig, MovingReference) {
  expect_rules<DpoConfig>({
      {{"--ref_model_mixup_alpha", "0.5"},
       {"[--ref_model_mixup_alpha] it moves the reference, and sync_ref_model is false. HINT: set "
        "sync_ref_model: true, or remove the key."}},
      {{"--ref_model_sync_steps", "5"},
       {"[--ref_model_sync_steps] it moves the reference, and sync_ref_model is false. HINT: set "
        "sync_ref_model: true, or remove the key."}},
      {{"--sync_ref_model", "--use_peft"},
       {"[--sync_ref_model] with an adapter the reference is the model without it. HINT: train all "
        "weights, or set sync_ref_model: false."}},
      {{"--sync_ref_model", "--precompute_ref_log_probs"},
       {"[--precompute_ref_log_probs] sync_ref_model moves the reference. HINT: keep one of the "
        "two."}},
  });
}

TEST(DpoConfig, AReferenceWithoutANameIsNone) {
  DpoConfig config = config_of<DpoConfig>({});
  config.dpo.reference.ref_model_name_or_path = "";
  Problems problems;
  validate(config, problems);
  EXPECT_EQ(texts_of(problems),
            Texts{"[ref_model_name_or_path] expected a model folder, got nothing. HINT: remove the "
                  "key for the policy as it starts."});
}

TEST(DpoConfig, WhoComputesTheReferenceBeforehand) {
  const auto reference = [](const Texts& args) { return config_of<DpoConfig>(args).dpo.reference; };
  EXPECT_TRUE(precomputes_reference(reference({}), /*adapter=*/false));
  EXPECT_FALSE(precomputes_reference(reference({}), /*adapter=*/true));
  EXPECT_TRUE(
      precomputes_reference(reference({"--ref_model_name_or_path", "a"}), /*adapter=*/true));
  EXPECT_FALSE(precomputes_reference(reference({"--sync_ref_model"}), /*adapter=*/false));
  EXPECT_TRUE(precomputes_reference(reference({"--precompute_ref_log_probs"}), /*adapter=*/true));
  EXPECT_FALSE(
      precomputes_reference(reference({"--no_precompute_ref_log_probs"}), /*adapter=*/false));

  EXPECT_TRUE(uses_reference(config_of<DpoConfig>({}).dpo));
  EXPECT_TRUE(uses_reference(config_of<DpoConfig>({"--loss_type", "sft", "ipo"}).dpo));
  EXPECT_FALSE(uses_reference(config_of<DpoConfig>({"--loss_type", "sft"}).dpo));
  EXPECT_FALSE(uses_reference(config_of<DpoConfig>({"--loss_type", "orpo"}).dpo));
  EXPECT_FALSE(uses_reference(config_of<DpoConfig>({"--reference_free"}).dpo));
}

TEST(DpoConfig, KeysOfOtherLibrariesAndOlderVersions) {
  Texts notes;
  const DpoConfig config =
      config_of<DpoConfig>({"--pref_loss", "ipo", "--pref_beta", "0.3", "--max_prompt_length",
                            "512", "--max_completion_length", "512", "--label_pad_token_id", "-100",
                            "--padding_value", "0", "--precompute_ref_batch_size", "4"},
                           &notes);
  EXPECT_EQ(config.dpo.loss_type, Losses{DpoLoss::ipo});
  EXPECT_EQ(config.dpo.loss.beta, 0.3);
  EXPECT_EQ(notes.size(), 6U) << fmt::format("{}", fmt::join(notes, "\n"));
  EXPECT_EQ(config_of<DpoConfig>({"--dpo_label_smoothing", "0.1"}).dpo.loss.label_smoothing, 0.1);
  for (const Texts& args : std::vector<Texts>{{"--generate_during_eval"},
                                              {"--is_encoder_decoder"},
                                              {"--alpha", "0.5"},
                                              {"--ref_model_init_kwargs", "{dtype: bfloat16}"},
                                              {"--ref_adapter_name", "ref"},
                                              {"--model_adapter_name", "policy"}}) {
    EXPECT_EQ(problems_of<DpoConfig>(args).size(), 1U) << args[0];
  }
}

TEST(DpoConfig, SharedChecksApply) {
  expect_rules<DpoConfig>({
      {{"--label_smoothing_factor", "0.1"},
       {"[--label_smoothing_factor] it spreads a next-token target, which dpo has none of. HINT: "
        "label_smoothing is the option of dpo."}},
      {{"--packing"},
       {"[--packing] not an option of this command. HINT: remove it; dpo has no such option: it "
        "belongs to sft."}},
      {{"--datasets", "[{path: a}]", "--eval_strategy", "epoch"},
       {"[--eval_strategy] a mixture under datasets has no test split to evaluate on. HINT: set "
        "test_split_size, or eval_strategy: no."}},
  });
}

TEST(DpoConfig, EveryProblemComesAtOnce) {
  EXPECT_EQ(problems_of<DpoConfig>({"--loss_type", "aot", "ipo", "--loss_weights", "1",
                                    "--discopop_tau", "1", "--f_divergence_type", "forward_kl",
                                    "--use_weighting", "--lora_r", "4", "--optim_args", "a=1"})
                .size(),
            6U);
}

}  // namespace
}  // namespace rlhf
