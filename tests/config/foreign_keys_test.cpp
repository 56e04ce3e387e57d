// What is said of keys, flags and values that other programs or other commands read.
#include "rlhf/config/foreign_keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/config/commands.h"
#include "tests/config/read.h"

namespace rlhf {
namespace {

class ForeignKeysTest : public ConfigFileTest {};

/// The first alternative of a row that the command reads as a whole; empty where there is none.
std::vector<std::string> read_here(const PeerKey& row, const CommandOptions& command) {
  for (const auto& names : alternatives_of(row)) {
    if (std::all_of(names.begin(), names.end(),
                    [&](const auto& name) { return command.all->find(name) != nullptr; }))
      return names;
  }
  return {};
}

std::string last_part(const std::string& key) { return key.substr(key.rfind('.') + 1); }

/// `kl` is a word of the key: `algo.kl.use_loss`, `init_kl_coef`.
bool is_of_the_kl(std::string key) {
  std::replace(key.begin(), key.end(), '.', '_');
  return ("_" + key + "_").find("_kl_") != std::string::npos;
}

TEST_F(ForeignKeysTest, EveryKeyNamedHereExists) {
  const auto commands = training_commands();
  size_t count = 0;
  for (const Peer& peer : peers()) {
    for (const PeerKey& row : peer.keys) {
      ++count;
      const auto alternatives = alternatives_of(row);
      EXPECT_FALSE(alternatives.empty() && std::string_view(row.how).empty()) << row.key;
      EXPECT_FALSE(std::string_view(row.how).ends_with('.')) << row.key;
      for (const auto& names : alternatives) {
        if (names == std::vector<std::string>{"model"} ||
            names == std::vector<std::string>{"output"} ||
            names == std::vector<std::string>{"max_new_tokens"})
          continue;  // of the commands without training: tests/cli/exit_codes.sh
        const bool one_command_has_all =
            std::any_of(commands.begin(), commands.end(), [&](const CommandOptions& command) {
              return std::all_of(names.begin(), names.end(), [&](const auto& name) {
                return command.all->find(name) != nullptr;
              });
            });
        EXPECT_TRUE(one_command_has_all) << peer.name << " " << row.key << ": " << row.ours;
      }
    }
  }
  EXPECT_GT(count, 500U) << "a table was lost";
}

TEST_F(ForeignKeysTest, EachTableHasAKeyOnce) {
  for (const Peer& peer : peers()) {
    std::set<std::string> keys;
    for (const PeerKey& row : peer.keys)
      EXPECT_TRUE(keys.insert(row.key).second) << peer.name << " " << row.key;
  }
}

/// The hint of every row and command names the first keys listed that the command has, and only
/// where it has none of them the commands that have the first.
TEST_F(ForeignKeysTest, EveryHintLeadsToAKeyOfTheCommandOrNamesTheCommand) {
  for (const auto& command : training_commands()) {
    for (const Peer& peer : peers()) {
      for (const PeerKey& row : peer.keys) {
        if (std::string_view(row.key) == row.ours || std::string_view(row.key).ends_with('*'))
          continue;
        const auto problem = explain_foreign(*command.all, row.key, ConfigNode::scalar("1"));
        const bool own =
            command.all->find(row.key) != nullptr || command.all->find_renamed(row.key) != nullptr;
        const InertKey* inert = command.all->find_inert(row.key);
        if (own || (inert != nullptr && inert->status != InertKey::Status::elsewhere)) continue;
        ASSERT_TRUE(problem) << command.name << " " << row.key;
        EXPECT_NE(problem->what.find(peer.name), std::string::npos) << problem->what;
        const auto alternatives = alternatives_of(row);
        if (alternatives.empty()) continue;
        const auto here = read_here(row, command);
        const std::string expected =
            here.empty() ? " that, of " + commands_with(alternatives.front().front())
                         : fmt::format("{} {} that here", fmt::join(here, " and "),
                                       here.size() == 1 ? "means" : "mean");
        EXPECT_NE(problem->hint.find(expected), std::string::npos)
            << command.name << " " << row.key << ": " << problem->hint;
      }
    }
  }
}

/// A command that has a key of the very name (`actor.use_kl_loss`) is led to a key of its own, and
/// ppo, which has keys for all that others say of the KL, is for each of those.
TEST_F(ForeignKeysTest, ACommandIsLedToItsOwnKeyWhereItHasOne) {
  size_t of_kl = 0;
  for (const auto& command : training_commands()) {
    for (const Peer& peer : peers()) {
      for (const PeerKey& row : peer.keys) {
        const std::string last = last_part(row.key);
        // `critic.model_name_or_path` is another model than model_name_or_path.
        const bool named =
            command.all->find(last) != nullptr && !std::string_view(row.ours).ends_with("_" + last);
        const bool kl = command.name == "ppo" && is_of_the_kl(row.key);
        of_kl += kl ? 1 : 0;
        if (alternatives_of(row).empty() || !(named || kl)) continue;
        EXPECT_FALSE(read_here(row, command).empty())
            << command.name << " " << peer.name << " " << row.key << ": " << row.ours;
      }
    }
  }
  EXPECT_GT(of_kl, 20U) << "a table was lost";
}

TEST_F(ForeignKeysTest, TheKlOfOthersInTheLossIsPposOwn) {
  const auto says = [](const Texts& problems, const std::string& hint) {
    return problems.size() == 1 && problems.front().find("HINT: " + hint) != std::string::npos;
  };
  EXPECT_TRUE(says(problems_of<PpoConfig>({"--algo.kl.use_loss", "true"}),
                   "use_kl_loss means that here: "));
  EXPECT_TRUE(
      says(problems_of<GrpoConfig>({"--algo.kl.use_loss", "true"}), "beta means that here: "));
  const std::string actor = "--actor_rollout_ref.actor.";
  EXPECT_TRUE(says(problems_of<PpoConfig>({actor + "use_kl_loss", "true"}),
                   "use_kl_loss means that here: "));
  EXPECT_TRUE(
      says(problems_of<PpoConfig>({actor + "kl_loss_coef", "0.001"}), "kl_coef means that here: "));
  EXPECT_TRUE(says(problems_of<PpoConfig>({actor + "kl_loss_type", "mse"}),
                   "kl_estimator means that here: mse is k2"));
  EXPECT_TRUE(
      says(problems_of<GrpoConfig>({actor + "kl_loss_coef", "0.001"}), "beta means that here: "));
}

/// `rlhf eval` judges with its own `reward`; the models beside it have keys of their own.
TEST_F(ForeignKeysTest, ModelsOfTrainingAreModelsOfEval) {
  std::string reward;
  std::optional<std::string> reward_model;
  std::optional<std::string> ref_model;
  OptionSet eval;
  eval.add("reward", reward, "What is measured.");
  const auto hint = [&](const char* key) {
    const auto problem = explain_foreign(eval, key, ConfigNode::scalar("m"));
    return problem ? problem->hint : "";
  };
  EXPECT_EQ(hint("reward_funcs"), "reward means that here.");
  EXPECT_EQ(hint("reward_model_name_or_path"), "");
  EXPECT_EQ(hint("ref_model_name_or_path"), "");
  eval.add("reward_model", reward_model, "A judge.");
  eval.add("ref_model", ref_model, "A reference.");
  EXPECT_EQ(hint("reward_model_name_or_path"), "reward_model means that here.");
  EXPECT_EQ(hint("ref_model_name_or_path"), "ref_model means that here.");
}

TEST_F(ForeignKeysTest, FlagsOfOthers) {
  EXPECT_EQ(problems_of<SftConfig>({"--cutoff_len", "2048"}),
            Texts{"[--cutoff_len] `cutoff_len` is LLaMA-Factory's. HINT: max_length means that "
                  "here: a longer answer is cut at its end, where LLaMA-Factory cuts prompt and "
                  "answer in proportion."});
  // Dashes, several words, a switch.
  EXPECT_EQ(
      problems_of<SftConfig>({"--micro-train-batch-size", "2", "--adam_betas", "0.9", "0.95",
                              "--packing_samples", "--max_steps", "3"}),
      (Texts{"[--micro_train_batch_size] `micro_train_batch_size` is OpenRLHF's. HINT: "
             "max_tokens_per_microbatch means that here: tokens of one pass; never changes a "
             "result.",
             "[--adam_betas] `adam_betas` is OpenRLHF's. HINT: adam_beta1 and adam_beta2 mean "
             "that here: 0.9 0.95 there by default, 0.9 0.999 here.",
             "[--packing_samples] `packing_samples` is OpenRLHF's. HINT: remove it: rows are "
             "always computed side by side, without padding."}));
  EXPECT_EQ(
      problems_of<GrpoConfig>({"--actor.adam.lr", "1e-6", "--rollout.n_samples_per_prompt=8"}),
      (Texts{"[--actor.adam.lr] `actor.adam.lr` is OpenRLHF's. HINT: learning_rate means "
             "that here.",
             "[--rollout.n_samples_per_prompt] `rollout.n_samples_per_prompt` is OpenRLHF's. "
             "HINT: num_generations means that here."}));
  // Behind a flag that takes several words, too.
  EXPECT_EQ(problems_of<GrpoConfig>(
                {"--report_to", "none", "actor_rollout_ref.rollout.n=8", "+trainer.nnodes=1"}),
            (Texts{"[--actor_rollout_ref.rollout.n] `actor_rollout_ref.rollout.n` is verl's. HINT: "
                   "num_generations means that here.",
                   "[--trainer.nnodes] `trainer.nnodes` is verl's. HINT: remove it: one process "
                   "trains on one device."}));
}

TEST_F(ForeignKeysTest, AKeyOfSeveralProgramsIsNamedOnce) {
  EXPECT_EQ(problems_of<SftConfig>({"--lora_rank", "8"}),
            Texts{"[--lora_rank] `lora_rank` is OpenRLHF's and LLaMA-Factory's. HINT: lora_r means "
                  "that here. Of OpenRLHF: with use_peft: true; 0 is use_peft: false. Of "
                  "LLaMA-Factory: 8 there by default, 16 here."});
  EXPECT_EQ(problems_of<RlooConfig>({"--ppo_epochs", "4"}),
            Texts{"[--ppo_epochs] `ppo_epochs` is TRL's, LLaMA-Factory's and torchtune's. HINT: "
                  "num_iterations means that here."});
}

TEST_F(ForeignKeysTest, AKeyOfAnotherCommandNamesIt) {
  EXPECT_EQ(problems_of<SftConfig>({"--n_samples_per_prompt", "8"}),
            Texts{"[--n_samples_per_prompt] `n_samples_per_prompt` is OpenRLHF's. HINT: "
                  "num_generations means that, of grpo, rloo, ppo."});
  // One name for each command: the first that the command reads.
  EXPECT_EQ(problems_of<PpoConfig>({"--init_kl_coef", "0.01"}).size(), 1U);
  EXPECT_NE(problems_of<PpoConfig>({"--eps_clip", "0.2"}).front().find("cliprange means that here"),
            std::string::npos);
  EXPECT_NE(problems_of<RlooConfig>({"--eps_clip", "0.2"}).front().find("epsilon means that here"),
            std::string::npos);
  EXPECT_NE(problems_of<PpoConfig>({"--max_epochs", "1"}).front().find("num_ppo_epochs means that"),
            std::string::npos);
  EXPECT_NE(problems_of<DpoConfig>({"--max_epochs", "1"}).front().find("num_train_epochs means"),
            std::string::npos);
}

TEST_F(ForeignKeysTest, KeysOfTrlStayWhatTheyAre) {
  // Known to another command, also where a peer has a key of the same name and meaning.
  EXPECT_EQ(
      problems_of<SftConfig>({"--beta", "0.1"}),
      Texts{"[--beta] not an option of this command. HINT: remove it; sft has no such option: "
            "it belongs to dpo, kto, grpo, rloo."});
  EXPECT_EQ(problems_of<SftConfig>({"--learning_rat", "1"}),
            Texts{"[--learning_rat] unknown key. HINT: did you mean --learning_rate?"});
  // torchtune's name for what TRL's PPO computes.
  EXPECT_EQ(problems_of<SftConfig>({"--batch_size", "4"}),
            Texts{"[--batch_size] `batch_size` is torchtune's. HINT: per_device_train_batch_size "
                  "means that here."});
}

TEST_F(ForeignKeysTest, AWholeFileOfLlamaFactoryIsOneList) {
  const auto file = write(
      "model_name_or_path: m\ntrust_remote_code: true\nstage: dpo\ndo_train: true\n"
      "finetuning_type: lora\nlora_rank: 8\nlora_target: all\npref_beta: 0.1\npref_loss: sigmoid\n"
      "dataset: dpo_en_demo\ntemplate: llama3\ncutoff_len: 2048\nmax_samples: 1000\n"
      "overwrite_cache: true\npreprocessing_num_workers: 16\ndataloader_num_workers: 4\n"
      "output_dir: saves/a\nlogging_steps: 10\nsave_steps: 500\nplot_loss: true\n"
      "overwrite_output_dir: true\nsave_only_model: false\nreport_to: none\n"
      "per_device_train_batch_size: 1\ngradient_accumulation_steps: 8\nlearning_rate: 5.0e-6\n"
      "num_train_epochs: 3.0\nlr_scheduler_type: cosine\nwarmup_ratio: 0.1\nbf16: true\n"
      "ddp_timeout: 180000000\nresume_from_checkpoint: null\nval_size: 0.1\n");
  Texts problems;
  try {
    read_dpo_config(Texts{"--config", file}, nullptr);
  } catch (const UserError& error) {
    problems = texts_of(error);
  }
  std::vector<std::string> keys;
  for (const auto& problem : problems) {
    const std::string place = problem.substr(0, problem.find(']'));
    keys.push_back(place.substr(place.rfind(' ') + 1));
  }
  // The last is what is missing once theirs are gone.
  EXPECT_EQ(keys, (Texts{"stage", "finetuning_type", "lora_rank", "lora_target", "dataset",
                         "template", "cutoff_len", "max_samples", "overwrite_cache", "plot_loss",
                         "val_size", "[dataset_name"}))
      << fmt::format("{}", fmt::join(problems, "\n"));
  ASSERT_FALSE(problems.empty());
  EXPECT_EQ(problems[0],
            fmt::format("[{}:3 stage] `stage` is LLaMA-Factory's. HINT: the command says "
                        "it: pt and sft are rlhf sft, rm is rlhf reward, ppo, dpo and kto "
                        "are rlhf ppo, rlhf dpo and rlhf kto.",
                        file));
}

TEST_F(ForeignKeysTest, NestedKeysAreNamedOneByOne) {
  const auto file = write(
      "model_name_or_path: m\nreward_funcs: accuracy\ndataset_name: d\n"
      "actor_rollout_ref:\n  actor:\n    optim:\n      lr: 1e-6\n    fsdp_config:\n"
      "      param_offload: false\n  rollout:\n    n: 5\n"
      "optim:\n  lr: 1e-5\n  unheard_of: 1\n");
  Texts problems;
  try {
    read_grpo_config(Texts{"--config", file}, nullptr);
  } catch (const UserError& error) {
    problems = texts_of(error);
  }
  EXPECT_EQ(
      problems,
      (Texts{
          fmt::format("[{}:7 actor_rollout_ref.actor.optim.lr] `actor_rollout_ref.actor.optim.lr` "
                      "is verl's. HINT: learning_rate means that here.",
                      file),
          fmt::format("[{}:9 actor_rollout_ref.actor.fsdp_config.param_offload] "
                      "`actor_rollout_ref.actor.fsdp_config.param_offload` is verl's. HINT: "
                      "remove it: one process trains on one device.",
                      file),
          fmt::format("[{}:11 actor_rollout_ref.rollout.n] `actor_rollout_ref.rollout.n` is "
                      "verl's. HINT: num_generations means that here.",
                      file),
          fmt::format("[{}:13 optim.lr] `optim.lr` is verl's. HINT: learning_rate means that here.",
                      file),
          fmt::format("[{}:14 optim.unheard_of] unknown key. HINT: remove it.", file)}));
}

TEST_F(ForeignKeysTest, AValueOfAnotherCommandNamesIt) {
  for (const char* loss : {"kto", "bco", "apo_zero_unpaired"}) {
    EXPECT_EQ(
        problems_of<DpoConfig>({"--loss_type", loss}),
        Texts{fmt::format("[--loss_type] \"{0}\" is not a choice of this command. HINT: run rlhf "
                          "kto with loss_type: {0}.",
                          loss)});
  }
  EXPECT_EQ(problems_of<DpoConfig>({"--loss_type", "sigmoid", "kto"}).size(), 1U);
  EXPECT_EQ(problems_of<DpoConfig>({"--pref_loss", "kto_pair"}),
            Texts{"[--pref_loss] \"kto_pair\" is not a choice of this command. HINT: run rlhf kto "
                  "with unpair: true, which reads pairs."});
  EXPECT_EQ(problems_of<RlooConfig>({"--advantage_estimator", "gae"}),
            Texts{"[--advantage_estimator] \"gae\" is not a choice of this command. HINT: run rlhf "
                  "ppo, which has a critic."});
  EXPECT_EQ(
      problems_of<RlooConfig>({"--advantage_estimator", "grpo"}),
      Texts{"[--advantage_estimator] \"grpo\" is not a choice of this command. HINT: run rlhf "
            "grpo with advantage_estimator: grpo."});
  EXPECT_EQ(problems_of<RlooConfig>({"--advantage_estimator", "reinforce"}), Texts{});
  EXPECT_EQ(
      problems_of<DpoConfig>({"--loss_type", "sigmod"}),
      Texts{"[--loss_type] expected list of one of \"sigmoid\", \"hinge\", \"ipo\", "
            "\"exo_pair\", \"nca_pair\", \"robust\", \"bco_pair\", \"sppo_hard\", \"aot\", "
            "\"aot_unpaired\", \"apo_zero\", \"apo_down\", \"discopop\", \"sft\", "
            "\"sigmoid_norm\", \"cpo\", \"simpo\", \"orpo\", got \"sigmod\" as element 1. HINT: "
            "did you mean sigmoid?"});
}

TEST_F(ForeignKeysTest, AFlagTakesThePlaceOfWhatAFileMayNotSay) {
  const auto file = write(
      "model_name_or_path: m\ndataset_name: d\nload_in_4bit: true\noptim: adamw_torch_4bit\n"
      "dataset_mixer: {a: 1.0}\nlr_scheduler_type: cosine_with_min_lr\n"
      "lr_scheduler_kwargs: {min_lr: 1e-7}\n");
  const auto config =
      read_sft_config(Texts{"--config", file, "--load_in_4bit", "false", "--optim", "adafactor",
                            "--dataset_mixer", "null", "--lr_scheduler_kwargs", "{num_cycles: 2}"},
                      nullptr);
  EXPECT_EQ(config.training.optim, OptimizerChoice::adafactor);
  EXPECT_EQ(config.data.dataset_name, Texts{"d"});
  // Nested keys of both are joined.
  EXPECT_EQ(config.training.lr_scheduler_kwargs.min_lr, 1e-7);
  EXPECT_EQ(config.training.lr_scheduler_kwargs.num_cycles, 2.0);
}

}  // namespace
}  // namespace rlhf
