// Rules of `rlhf kto`, `rlhf reward` and `rlhf prm`, and the help of every command.
#include <gtest/gtest.h>

#include "tests/config/read.h"

namespace rlhf {
namespace {

TEST(KtoConfig, BatchesOfMismatchedPairsAreFixed) {
  const std::string order =
      "[--train_sampling_strategy] loss_type kto pairs each prompt with its neighbour's answer, so "
      "batches must not change from epoch to epoch; got {}. HINT: use sequential and shuffle the "
      "file, or another loss_type.";
  expect_rules<KtoConfig>({
      {{"--train_sampling_strategy", "random"}, {fmt::format(fmt::runtime(order), "random")}},
      {{"--train_sampling_strategy", "group_by_length"},
       {fmt::format(fmt::runtime(order), "group_by_length")}},
      {{"--train_sampling_strategy", "random", "--loss_type", "apo_zero_unpaired"}, {}},
      {{"--train_sampling_strategy", "random", "--loss_type", "bco"}, {}},
      {{"--per_device_train_batch_size", "1"},
       {"[--per_device_train_batch_size] loss_type kto pairs the rows of a step with each other, "
        "got "
        "a step of one row. HINT: use at least 2 rows a step, or loss_type: apo_zero_unpaired."}},
      {{"--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "2"}, {}},
      {{"--per_device_train_batch_size", "1", "--loss_type", "apo_zero_unpaired"}, {}},
  });
  EXPECT_EQ(problems_of<KtoConfig>({"--group_by_length"}).size(), 1U);
}

TEST(KtoConfig, ValuesAndRanges) {
  const KtoOptions kto =
      config_of<KtoConfig>({"--loss_type", "bco", "--beta", "0.2", "--desirable_weight", "2",
                            "--undesirable_weight", "0", "--unpair", "--sync_ref_model",
                            "--ref_model_sync_steps", "3"})
          .kto;
  EXPECT_EQ(kto.loss_type, UnpairedLoss::bco);
  EXPECT_EQ(kto.loss.beta, 0.2);
  EXPECT_EQ(kto.loss.desirable_weight, 2);
  EXPECT_EQ(kto.loss.undesirable_weight, 0);
  EXPECT_TRUE(kto.unpair);
  EXPECT_EQ(kto.reference.ref_model_sync_steps, 3);
  for (const Texts& args : std::vector<Texts>{{"--beta", "0"},
                                              {"--desirable_weight", "-1"},
                                              {"--undesirable_weight", "-1"},
                                              {"--max_length", "0"},
                                              {"--loss_type", "sigmoid"},
                                              {"--label_smoothing_factor", "0.1"},
                                              {"--sync_ref_model", "--use_peft"},
                                              {"--ref_model_sync_steps", "3"},
                                              {"--label_smoothing", "0.1"}}) {
    EXPECT_EQ(problems_of<KtoConfig>(args).size(), 1U) << args[0];
  }
}

TEST(KtoConfig, DensityRatiosOfBcoAreRefused) {
  const std::string hint =
      " is not supported. HINT: remove it; BCO's density ratios need a second model that embeds "
      "prompts, which is not offered.";
  expect_rules<KtoConfig>({
      {{"--loss_type", "bco", "--prompt_sample_size", "64"}, {"[--prompt_sample_size] 64" + hint}},
      {{"--loss_type", "bco", "--min_density_ratio", "0.1"}, {"[--min_density_ratio] 0.1" + hint}},
      {{"--loss_type", "bco", "--max_density_ratio", "5"}, {"[--max_density_ratio] 5" + hint}},
      {{"--loss_type", "bco", "--prompt_sample_size", "1024", "--min_density_ratio", "0.5",
        "--max_density_ratio", "10"},
       {}},
  });
}

TEST(RewardConfig, ValuesAndRanges) {
  const RewardOptions reward =
      config_of<RewardConfig>({"--center_rewards_coefficient", "0.01", "--max_length", "null",
                               "--drop_identical_pairs", "--no_disable_dropout", "--use_peft"})
          .reward;
  EXPECT_EQ(reward.center_rewards_coefficient, 0.01);
  EXPECT_EQ(reward.max_length, std::nullopt);
  EXPECT_TRUE(reward.drop_identical_pairs);
  EXPECT_FALSE(reward.disable_dropout);
  expect_rules<RewardConfig>({
      {{"--center_rewards_coefficient", "0"},
       {"[--center_rewards_coefficient] expected number above 0 or null, got 0. HINT: the default "
        "is "
        "null."}},
      {{"--max_length", "0"},
       {"[--max_length] expected integer at least 1 or null, got 0. HINT: the default is 1024."}},
      {{"--label_smoothing_factor", "0.1"},
       {"[--label_smoothing_factor] it spreads a next-token target, which reward has none of. "
        "HINT: "
        "remove the key."}},
      {{"--beta", "0.1"},
       {"[--beta] not an option of this command. HINT: remove it; reward has no such option: it "
        "belongs to dpo, kto, grpo, rloo."}},
      {{"--truncation_mode", "keep_end"},
       {"[--truncation_mode] not an option of this command. HINT: remove it; reward has no such "
        "option: it belongs to sft, dpo."}},
  });
}

TEST(PrmConfig, ValuesAndRanges) {
  const PrmOptions prm =
      config_of<PrmConfig>({"--step_separator", "<step>", "--train_on_last_step_only",
                            "--max_length", "2048", "--max_completion_length", "512"})
          .prm;
  EXPECT_EQ(prm.step_separator, "<step>");
  EXPECT_TRUE(prm.train_on_last_step_only);
  EXPECT_EQ(prm.max_length, 2048);
  EXPECT_EQ(prm.max_completion_length, 512);
  EXPECT_EQ(config_of<PrmConfig>({}).prm.step_separator, "\n");
  expect_rules<PrmConfig>({
      {{"--step_separator", ""},
       {"[--step_separator] expected a text for the labels to stand on, got nothing. HINT: the "
        "default is a new line."}},
      {{"--max_completion_length", "0"},
       {"[--max_completion_length] expected integer at least 1 or null, got 0. HINT: the default "
        "is "
        "null."}},
      {{"--label_smoothing_factor", "0.1"},
       {"[--label_smoothing_factor] it spreads a next-token target, which prm has none of. HINT: "
        "remove the key."}},
  });
  Texts notes;
  config_of<PrmConfig>({"--max_prompt_length", "512"}, &notes);
  EXPECT_EQ(notes.size(), 1U);
}

template <class Config>
void expect_no_noise(const char* command) {
  expect_rules<Config>(
      {{{"--neftune_noise_alpha", "5"},
        {fmt::format("[--neftune_noise_alpha] {} adds no noise to embeddings: NEFTune is a method "
                     "for supervised fine-tuning. HINT: remove the key.",
                     command)}}});
}

TEST(Neftune, BelongsToSupervisedFineTuning) {
  EXPECT_EQ(config_of({"--neftune_noise_alpha", "5"}).training.neftune_noise_alpha, 5);
  expect_no_noise<DpoConfig>("dpo");
  expect_no_noise<KtoConfig>("kto");
  expect_no_noise<RewardConfig>("reward");
  expect_no_noise<PrmConfig>("prm");
}

TEST(Help, NamesTheCommandAndItsOptions) {
  const std::vector<std::tuple<std::string, std::string, std::string>> pages = {
      {"sft", sft_help(), "--packing "},
      {"dpo", dpo_help(), "--ref_model_name_or_path "},
      {"kto", kto_help(), "--desirable_weight "},
      {"reward", reward_help(), "--center_rewards_coefficient "},
      {"prm", prm_help(), "--step_separator "}};
  for (const auto& [name, page, option] : pages) {
    EXPECT_EQ(page.find(fmt::format("rlhf {} --config run.yaml", name)), 0U);
    EXPECT_NE(page.find("  " + option), std::string::npos) << name;
    EXPECT_NE(page.find("  --use_peft "), std::string::npos) << name;
    EXPECT_NE(page.find("  --learning_rate "), std::string::npos) << name;
  }
}

}  // namespace
}  // namespace rlhf
