// One base under every role of a run with adapters: policy, critic, reference and reward model, by
// the addresses of their tensors, and with the results of separate copies.
#include <gtest/gtest.h>

#include <set>

#include "policy_case.h"
#include "rlhf/models/adapter.h"
#include "rlhf/models/classifier.h"
#include "rlhf/models/safetensors.h"
#include "rlhf/train/critic.h"
#include "rlhf/train/memory_run.h"
#include "rlhf/train/ppo.h"
#include "rlhf/train/reward.h"
#include "rlhf/train/rollout_maker.h"

namespace rlhf {
namespace {

using testing::Arguments;
using testing::with;

const Arguments kLora = {"--use_peft", "true",     "--lora_target_modules",
                         "all-linear", "--lora_r", "4"};

/// The tiny model with its tokenizer, stored in bfloat16: every role needs it converted.
fs::path write_base(const fs::path& folder) {
  fs::create_directories(folder);
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"})
    fs::copy_file(testing::fixtures() / "model" / name, folder / name);
  save_model(load_model(testing::fixtures() / "model"), folder, {.dtype = at::kBFloat16});
  return folder;
}

/// The reward adapter of the fixtures, for `base`.
fs::path write_reward_adapter(const fs::path& folder, const fs::path& base) {
  const fs::path source = testing::fixtures() / "preference" / "adapter_reward";
  fs::create_directories(folder);
  fs::copy_file(source / "adapter_model.safetensors", folder / "adapter_model.safetensors");
  Json config = Json::parse(read_file(source / "adapter_config.json"));
  config["base_model_name_or_path"] = base.string();
  write_file(folder / "adapter_config.json", config.dump());
  return folder;
}

/// Of a run that trains whole models.
Arguments full_arguments(const fs::path& folder, const std::string& run, const fs::path& base,
                         const Arguments& more) {
  return testing::merged(
      testing::sampling(folder, run,
                        {"--num_generations", "1", "--model_name_or_path", base.string(), "--dtype",
                         "float32", "--learning_rate", "5e-3"}),
      more);
}

/// Of one with adapters.
Arguments ppo_arguments(const fs::path& folder, const std::string& run, const fs::path& base,
                        const Arguments& more) {
  return full_arguments(folder, run, base, with(kLora, more));
}

TrainResult train_ppo_with(const Arguments& arguments, const TrainHooks& hooks = {}) {
  return train_ppo(read_ppo_config(arguments, nullptr), hooks);
}

/// A run's roles as its set-up makes them.
struct Roles {
  PpoConfig config;
  Prepared prepared;
  Judges judges;
  std::optional<Critic> critic;

  Roles(const Arguments& arguments, const std::string& critic_folder)
      : config(read_ppo_config(arguments, nullptr)) {
    SetupChecks checks;
    prepared = prepare_run(
        config, run_memory(config), [](const TextSide*) { return PolicyRequest{}; }, checks);
    checks.throw_if_any();
    Problems problems;
    judges = read_judges(config.ppo.rollout, /*longest=*/12, &*prepared.text,
                         &prepared.policy->model, problems);
    problems.throw_if_any();
    critic.emplace(config, config.ppo.rollout, CriticOptions{.folder = critic_folder},
                   *prepared.text, *prepared.policy, judges.model ? &*judges.model : nullptr);
  }
};

/// Distinct places of base tensors, score heads aside.
size_t places(const std::vector<const Model*>& models) {
  std::set<const void*> found;
  for (const Model* model : models) {
    for (const auto& [name, tensor] : model->decoder.tensors()) {
      if (!name.starts_with("score")) found.insert(tensor.const_data_ptr());
    }
  }
  return found.size();
}

TEST(SharedBase, EveryRoleOfARunHasTheSameTensors) {
  const fs::path folder = testing::scratch("shared_roles");
  const fs::path base = write_base(folder / "base");
  const fs::path reward = write_reward_adapter(folder / "reward", base);
  const size_t tensors =
      SafetensorsFile(base / "model.safetensors").tensors().size();  // tied: no head of its own
  for (const fs::path& critic : {reward, base}) {
    const Roles roles(
        ppo_arguments(folder, "run", base, {"--reward_model_name_or_path", reward.string()}),
        critic.string());
    const Model& policy = roles.prepared.policy->model;
    EXPECT_EQ(policy.decoder.dtype(), at::kFloat);
    EXPECT_GE(roles.judges.model->decoder.active_adapter(), 0);
    EXPECT_EQ(places({&policy}), tensors);
    EXPECT_EQ(places({&policy, &*roles.judges.model, &roles.critic->model()}), tensors);
  }
}

// A full reward model has weights of its own; a critic that starts from it stands on those.
TEST(SharedBase, ACriticStandsOnAFullRewardModel) {
  const fs::path folder = testing::scratch("shared_full");
  const fs::path base = write_base(folder / "base");
  const std::string reward = (testing::fixtures() / "preference" / "reward_model").string();
  const Roles roles(ppo_arguments(folder, "run", base, {"--reward_model_name_or_path", reward}),
                    reward);
  const Model& policy = roles.prepared.policy->model;
  EXPECT_EQ(places({&*roles.judges.model, &roles.critic->model()}), places({&*roles.judges.model}));
  EXPECT_EQ(places({&policy, &*roles.judges.model}),
            places({&policy}) + places({&*roles.judges.model}));
}

// The base of a reward adapter need not be the policy's: a critic of that base, or of an adapter on
// it, has it in common with the reward model. The plan counts it once.
TEST(SharedBase, ACriticStandsOnTheBaseOfARewardAdapter) {
  const fs::path folder = testing::scratch("shared_reward_base");
  const fs::path base = write_base(folder / "base");
  const fs::path reward_base = write_base(folder / "base_of_reward");
  const fs::path reward = write_reward_adapter(folder / "reward", reward_base);
  for (const fs::path& critic : {reward, reward_base}) {
    SCOPED_TRACE(critic.string());
    const Roles roles(ppo_arguments(folder, "run", base,
                                    {"--reward_model_name_or_path", reward.string(),
                                     "--value_model_name_or_path", critic.string()}),
                      critic.string());
    const Model& policy = roles.prepared.policy->model;
    const Model& judge = *roles.judges.model;
    EXPECT_EQ(places({&judge, &roles.critic->model()}), places({&judge}));
    EXPECT_EQ(places({&policy, &judge}), places({&policy}) + places({&judge}));
    EXPECT_TRUE(memory_request(run_memory(roles.config)).critic->shares_base);
  }
}

// Without an adapter each role's weights move: nothing is shared.
TEST(SharedBase, WhatIsTrainedInFullIsACopy) {
  const fs::path folder = testing::scratch("shared_not");
  const fs::path base = write_base(folder / "base");
  const Roles roles(full_arguments(folder, "run", base, {}), base.string());
  const Model& policy = roles.prepared.policy->model;
  EXPECT_EQ(places({&policy, &roles.critic->model()}), 2 * places({&policy}));
}

// The same run with a reward model and a critic on copies of the base elsewhere on disk: the bits
// of policy, critic, completions and metrics.
TEST(SharedBase, GivesTheBitsOfSeparateCopies) {
  const fs::path folder = testing::scratch("shared_bits");
  const fs::path base = write_base(folder / "base");
  for (const bool copies : {false, true}) {
    const fs::path roles = folder / (copies ? "of_copies" : "of_one");
    const auto reward_base = copies ? write_base(folder / "base_of_reward") : base;
    const auto value_base = copies ? write_base(folder / "base_of_value") : base;
    const auto reward = write_reward_adapter(roles / "reward", reward_base);
    const auto value = write_reward_adapter(roles / "value", value_base);
    train_ppo_with(
        ppo_arguments(folder, copies ? "copies" : "one", base,
                      {"--reward_model_name_or_path", reward.string(), "--value_model_name_or_path",
                       value.string(), "--max_steps", "10", "--num_mini_batches", "2"}));
  }
  for (const char* file :
       {"adapter_model.safetensors", "critic/adapter_model.safetensors", "completions.jsonl"})
    EXPECT_TRUE(read_file(folder / "one" / file) == read_file(folder / "copies" / file)) << file;
  EXPECT_EQ(testing::comparable(folder / "one"), testing::comparable(folder / "copies"));
}

// Five of ten steps: in the middle of the second rollout's four.
TEST(SharedBase, ContinuesBitForBit) {
  const fs::path folder = testing::scratch("shared_resume");
  const fs::path base = write_base(folder / "base");
  const fs::path reward = write_reward_adapter(folder / "reward", base);
  const auto run = [&](const std::string& name, const Arguments& more, const TrainHooks& hooks) {
    return train_ppo_with(
        ppo_arguments(folder, name, base,
                      with({"--reward_model_name_or_path", reward.string(), "--max_steps", "10",
                            "--save_strategy", "steps", "--save_steps", "5"},
                           more)),
        hooks);
  };
  run("straight", {}, {});
  int64_t steps = 0;
  const TrainHooks stop{.on_progress = [&](const Progress& p) { steps = p.step; },
                        .should_stop = [&] { return steps == 5; }};
  EXPECT_EQ(run("halves", {}, stop).end, TrainEnd::interrupted);
  EXPECT_EQ(run("halves", {"--resume_from_checkpoint", "true"}, {}).end, TrainEnd::done);
  for (const char* file :
       {"adapter_model.safetensors", "critic/adapter_model.safetensors", "completions.jsonl"})
    EXPECT_EQ(read_file(folder / "straight" / file), read_file(folder / "halves" / file)) << file;
}

// A policy that goes on from an adapter: that adapter is no critic, its base is what one starts from.
TEST(SharedBase, AStartAdapterHasACriticOnItsBase) {
  const fs::path folder = testing::scratch("shared_start");
  const fs::path base = write_base(folder / "base");
  train_ppo_with(ppo_arguments(folder, "first", base, {"--max_steps", "2"}));
  const fs::path first = folder / "first";
  const auto result = train_ppo_with(testing::merged(
      testing::sampling(folder, "second",
                        {"--num_generations", "1", "--dtype", "float32", "--max_steps", "2"}),
      {"--model_name_or_path", first.string()}));
  EXPECT_EQ(result.end, TrainEnd::done);
  EXPECT_EQ(load_lora_config(folder / "second" / "critic").task,
            ModelTask::sequence_classification);
}

// The base by its name is the policy with its adapter off.
TEST(SharedBase, TheBaseAsReferenceIsTheAdapterOff) {
  const fs::path folder = testing::scratch("shared_reference");
  const fs::path base = write_base(folder / "base");
  const fs::path copy = write_base(folder / "copy");
  for (const auto& [run, reference] :
       {std::pair("without", fs::path()), std::pair("with_base", base),
        std::pair("with_copy", copy)}) {
    Arguments more = {"--model_name_or_path", base.string(), "--beta", "0.5"};
    if (!reference.empty()) more = with(more, {"--ref_model_name_or_path", reference.string()});
    testing::train_grpo_with(testing::sampling(folder, run, with(kLora, more)));
  }
  for (const char* run : {"with_base", "with_copy"}) {
    EXPECT_EQ(read_file(folder / "without" / "adapter_model.safetensors"),
              read_file(folder / run / "adapter_model.safetensors"))
        << run;
  }
}

/// The tensors of a file by name.
std::map<std::string, at::Tensor> tensors_of(const fs::path& path) {
  const SafetensorsFile file(path);
  std::map<std::string, at::Tensor> tensors;
  for (const auto& stored : file.tensors()) tensors[stored.name] = file.view(stored).clone();
  return tensors;
}

// The reward rises, so that where less is better an early step is the best.
TEST(SharedBase, TheCriticOfTheBestStepIsKept) {
  const fs::path folder = testing::scratch("shared_best");
  for (const auto& [run, lora] : {std::pair("lora", true), std::pair("full", false)}) {
    SCOPED_TRACE(run);
    train_ppo_with(full_arguments(folder, run, testing::fixtures() / "model",
                                  with({"--max_steps",
                                        "24",
                                        "--learning_rate",
                                        "1e-2",
                                        "--eval_strategy",
                                        "steps",
                                        "--eval_steps",
                                        "4",
                                        "--save_strategy",
                                        "steps",
                                        "--save_steps",
                                        "4",
                                        "--test_split_size",
                                        "4",
                                        "--num_generations_eval",
                                        "8",
                                        "--load_best_model_at_end",
                                        "true",
                                        "--metric_for_best_model",
                                        "reward",
                                        "--greater_is_better",
                                        "false"},
                                       lora ? kLora : Arguments())));
    const fs::path output = folder / run;
    const auto best =
        Json::parse(read_file(output / "trainer_state.json")).at("best_global_step").get<int64_t>();
    ASSERT_LT(best, 24) << "the last step is the best one: nothing is tested";
    const char* weights = lora ? "adapter_model.safetensors" : "model.safetensors";
    const auto critic = tensors_of(output / "critic" / weights);
    const auto kept =
        tensors_of(output / fmt::format("checkpoint-{}", best) / "critic.safetensors");
    const auto last = tensors_of(output / "checkpoint-24" / "critic.safetensors");
    bool moved = false;
    for (const auto& [name, tensor] : critic) {
      EXPECT_TRUE(tensor.equal(kept.at(name))) << name;
      moved = moved || !tensor.equal(last.at(name));
    }
    EXPECT_TRUE(moved);
  }
}

// What a new adapter says is what the model says, so that a run that learns nothing stores the same
// statistics either way; one that learned is read with its own.
TEST(SharedBase, ARewardAdapterKeepsItsStatisticsAndItsPadding) {
  const fs::path folder = testing::scratch("shared_statistics");
  const fs::path model = testing::fixtures() / "preference" / "reward_model";
  const auto train = [&](const std::string& run, const Arguments& more) {
    train_reward(
        read_reward_config(
            testing::merged(
                testing::common_arguments(folder / run, "pairs"),
                with({"--model_name_or_path", model.string(), "--dataset_name",
                      (testing::fixtures() / "preference" / "pairs" / "train.jsonl").string(),
                      "--max_steps", "2"},
                     more)),
            nullptr),
        {});
    return folder / run;
  };
  const auto full = load_reward_statistics(train("full", {"--learning_rate", "0"}));
  const auto still = load_reward_statistics(train("still", with(kLora, {"--learning_rate", "0"})));
  ASSERT_TRUE(full && still);
  EXPECT_EQ(full->mean, still->mean);
  EXPECT_EQ(full->std, still->std);
  const fs::path adapter = train("adapter", with(kLora, {"--learning_rate", "1e-2"}));
  EXPECT_NE(load_reward_statistics(adapter)->mean, still->mean);
  const Json config = Json::parse(read_file(model / "config.json"));
  EXPECT_EQ(Json::parse(read_file(adapter / "classifier_config.json")).at("pad_token_id"),
            config.at("pad_token_id"));
  // The reward model is the only judge.
  const auto result = train_ppo_with(testing::grpo_arguments(
      folder / "ppo",
      with(kLora, {"--dataset_name", testing::prompts_in(folder).string(), "--num_generations", "1",
                   "--reward_model_name_or_path", adapter.string(), "--normalize_scores", "true",
                   "--max_steps", "2"})));
  EXPECT_EQ(result.end, TrainEnd::done);
}

}  // namespace
}  // namespace rlhf
