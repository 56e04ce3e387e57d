// Byte counts worked by hand for a model of 1992 numbers.
//
//   V 100, C 8, L 2, H 2, K 1, D 4, F 16, tied.
//   embedding 800; a layer: norms 8 + 8, q 64, k 32, v 32, o 64, gate, up and down 128 each: 592;
//   last norm 8: 800 + 2 · 592 + 8 = 1992.
#include "rlhf/train/memory_plan.h"

#include <gtest/gtest.h>

#include <set>

#include "rlhf/train/machine_memory.h"
#include "rlhf/train/memory_run.h"
#include "rlhf/train/run.h"
#include "tests/models/temporary_folder.h"

namespace rlhf {
namespace {

Json tiny_json() {
  return {{"model_type", "llama"},
          {"vocab_size", 100},
          {"hidden_size", 8},
          {"intermediate_size", 16},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"head_dim", 4},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-6},
          {"tie_word_embeddings", true}};
}

DecoderConfig tiny() {
  Problems problems;
  DecoderConfig config = read_config(tiny_json(), "config.json", problems);
  problems.throw_if_any();
  return config;
}

int64_t part(const MemoryPhase& phase, const std::string& name) {
  for (const auto& one : phase.parts) {
    if (one.name == name) return one.bytes;
  }
  return 0;
}

const MemoryPhase& phase(const MemoryPlan& plan, const std::string& name) {
  for (const auto& one : plan.phases) {
    if (one.name == name) return one;
  }
  throw std::runtime_error("no phase " + name);
}

MemoryRequest supervised() {
  MemoryRequest request;
  request.policy = {.memory = trained_model(tiny(), 4)};
  request.head = HeadUse::supervised;
  request.tokens = 10;
  return request;
}

TEST(MemoryModel, CountsWeightsAndWhatALayerKeeps) {
  const ModelMemory model = trained_model(tiny(), 4);
  EXPECT_EQ(model.parameters, 1992);
  EXPECT_EQ(model.trained, 1992);
  // C + (H + 2K)D + HD + H + C + 2F = 8 + 16 + 8 + 2 + 8 + 32 = 74 numbers.
  EXPECT_EQ(layer_bytes(model, 0), 296);
  EXPECT_EQ(graph_bytes(model), 592);
}

TEST(MemoryModel, CountsAdapters) {
  LoraConfig lora;
  lora.r = 2;
  lora.target_modules = {"all-linear"};
  // r (in + out): q and o 32, k and v 24, gate, up and down 48: 256 a layer.
  const ModelMemory all = adapted_model(tiny(), 4, lora);
  EXPECT_EQ(all.adapter, 512);
  EXPECT_EQ(all.trained, 0);
  // Beside the 74 both normed inputs with their inverse norms, and the product of gate and up: 8 + 8 +
  // 2 + 16, together 108. Seven matrices keep A x, two numbers each.
  EXPECT_EQ(layer_bytes(all, 1), (108 + 14) * 4);

  // Queries and values: o, gate, up and down are frozen and keep no input (8 + 1 + 16 less), and two
  // adapters keep two numbers.
  lora.target_modules = {};
  const ModelMemory few = adapted_model(tiny(), 4, lora);
  EXPECT_EQ(few.adapter, 112);
  EXPECT_EQ(layer_bytes(few, 0), (108 - 8 - 1 - 16 + 4) * 4);
}

TEST(MemoryModel, CountsBfloat16) {
  // Norms keep their input in fp32 and the normed row: two of 8 · 4 + 8 · 2; inputs of the matrices
  // two of 8 · 2; attention in fp32 (16 + 8 + 2) · 4 and its output once more 8 · 2; gate, its
  // activation, up and the product 4 · 16 · 2; two inverse norms in fp32.
  EXPECT_EQ(layer_bytes(trained_model(tiny(), 2), 0), 96 + 32 + 104 + 16 + 128 + 8);
}

TEST(MemoryPlan, CountsASupervisedStep) {
  const MemoryPlan plan = plan_memory(supervised());
  const MemoryPhase& update = phase(plan, "update");
  EXPECT_EQ(part(update, "policy"), 1992 * 4);
  EXPECT_EQ(part(update, "optimizer"), 2 * 1992 * 4);
  // All ten tokens' graph; one chunk of logits 10 · 100 · 4 and three of the hidden rows' size 320;
  // the tied head's gradient 100 · 8 · 4.
  EXPECT_EQ(part(update, "activations"), 5920);
  EXPECT_EQ(part(update, "head"), 4000 + 960);
  EXPECT_EQ(part(update, "gradients"), 3200);
  // A second micro-batch meets the gradients of the first.
  MemoryRequest two = supervised();
  two.step_tokens = 20;
  EXPECT_EQ(part(phase(plan_memory(two), "update"), "gradients"), 7968);
  // One of two tokens after it does not: 1184 + 7968 + … are less than the first one's.
  two.step_tokens = 12;
  EXPECT_EQ(part(phase(plan_memory(two), "update"), "gradients"), 3200);
}

// Two samples of four tokens behind a prompt of four. Sampling: the prompt's pass, 4 · (3F + 5C) · 4 =
// 1408, more than two rows of logits. The update's entry holds 5920 of activations, 10 · (2F + 2C) · 4 =
// 1920 of gradients on their way, 3200 of the head's and 888 for holes: 11928.
TEST(MemoryPlan, ARolloutMeetsWhatTheUpdateBeforeItHasLeft) {
  MemoryRequest request = supervised();
  request.head = HeadUse::logprobs;
  request.rollout = {.prompt_tokens = 4,
                     .new_tokens = 4,
                     .prompts = 1,
                     .generations = 2,
                     .rows = 8,
                     .cache_bytes = 1 << 20};
  const MemoryPlan plan = plan_memory(request);
  EXPECT_EQ(part(phase(plan, "rollout"), "sampling"), 1408);
  EXPECT_EQ(part(phase(plan, "rollout"), "left by the update"), 11928 - 1408);
}

TEST(MemoryPlan, TheLastLayerGoesOnWithTheScoredRowsAlone) {
  MemoryRequest request = supervised();
  request.scored_share = 0.5;
  // Five tokens less of the last layer's C + 2F = 40 numbers, and of the head's logits and rows.
  EXPECT_EQ(part(phase(plan_memory(request), "update"), "activations"), 5920 - 5 * 160);
  EXPECT_EQ(part(phase(plan_memory(request), "update"), "head"), (4000 + 960) / 2);
}

// With an adapter of queries and values alone and few scored rows the backward's entry takes most: a
// layer keeps (108 − 8 − 1 − 16 + 4) · 4 = 348 bytes a token, of which C + 2F = 40 numbers are the
// MLP's. Gradients are 2F + 2C = 48 numbers a token.
TEST(MemoryPlan, GradientsOfAllTokensPassWhenTheLastLayerIsFree) {
  LoraConfig lora;
  lora.r = 2;
  MemoryRequest request = supervised();
  request.policy.memory = adapted_model(tiny(), 4, lora);
  request.head = HeadUse::scores;
  EXPECT_EQ(part(phase(plan_memory(request), "update"), "backward"), 10 * 192);
  request.scored_share = 0.0;
  EXPECT_EQ(layer_bytes(request.policy.memory, 1), 348);
  EXPECT_EQ(last_mlp_bytes(request.policy.memory), 40 * 4);
  EXPECT_EQ(part(phase(plan_memory(request), "update"), "backward"), 10 * (192 - (348 - 160)));
}

// Of 20 tokens the second ten meet the gradients of the first, 1992 numbers. The head is the largest
// moment of all four. Its products add to them in fp32; in bfloat16 its 100 · 8 numbers are narrowed
// from fp32, and stand beside.
TEST(MemoryPlan, TheHeadsGradientStandsBesideTheSumsWhereItIsMadeApart) {
  const auto gradients = [](HeadUse head, int64_t element) {
    MemoryRequest request = supervised();
    request.policy.memory = trained_model(tiny(), element);
    request.head = head;
    request.step_tokens = 20;
    const MemoryPlan plan = plan_memory(request);
    EXPECT_GT(part(phase(plan, "update"), "head"), 0);
    return part(phase(plan, "update"), "gradients");
  };
  EXPECT_EQ(gradients(HeadUse::supervised, 4), 7968);
  EXPECT_EQ(gradients(HeadUse::logprobs, 4), 7968);
  EXPECT_EQ(gradients(HeadUse::supervised, 2), 3984 + 1600);
  EXPECT_EQ(gradients(HeadUse::logprobs, 2), 3984 + 1600);
}

TEST(MemoryPlan, CheckpointingKeepsTheInputsOfLayers) {
  MemoryRequest request = supervised();
  request.checkpointing = true;
  request.tokens = 20;
  // 20 tokens · 2 layers · 8 numbers.
  EXPECT_EQ(part(phase(plan_memory(request), "update"), "activations"), 1280);
  // Of these and of one layer made again, 20 · 296, 15%; and what the pass before left of its widest
  // place, 3 · 16 + 5 · 8 numbers a token.
  EXPECT_EQ(part(phase(plan_memory(request), "update"), "fragmentation"), 1080 + 20 * 88 * 4);
}

TEST(MemoryPlan, CountsOptimizers) {
  MemoryRequest request = supervised();
  request.optimizer.kind = OptimizerKind::sgd;
  EXPECT_EQ(part(phase(plan_memory(request), "update"), "optimizer"), 0);
  request.optimizer.momentum = 0.9;
  EXPECT_EQ(part(phase(plan_memory(request), "update"), "optimizer"), 7968);
  // Rows and columns: embedding 108; a layer 8 + 8 + q 16 + k 12 + v 12 + o 16 + three of 24 = 144;
  // last norm 8.
  request.optimizer.kind = OptimizerKind::adafactor;
  EXPECT_EQ(part(phase(plan_memory(request), "update"), "optimizer"), (108 + 2 * 144 + 8) * 4);
  // fp32 masters and two moments of bfloat16 weights.
  request.optimizer.kind = OptimizerKind::adamw;
  request.policy.memory = trained_model(tiny(), 2);
  EXPECT_EQ(part(phase(plan_memory(request), "update"), "optimizer"), 3 * 7968);
  EXPECT_EQ(part(phase(plan_memory(request), "update"), "policy"), 1992 * 2);
}

// The tiny model with F 600 and V 520: gate, up and down have 4800 numbers each, 19 blocks, the
// embedding 4160 and 32-bit moments. In all 4160 + 8 + 2 · (592 − 384 + 14400).
TEST(MemoryPlan, CountsAdamwIn8Bits) {
  MemoryRequest request = supervised();
  DecoderConfig config = tiny();
  config.vocab_size = 520;
  config.inner = 600;
  request.optimizer.kind = OptimizerKind::adamw_8bit;
  for (const int64_t element : {4, 2}) {
    request.policy.memory = trained_model(config, element);
    ASSERT_EQ(request.policy.memory.trained, 33384);
    EXPECT_EQ(request.policy.memory.quantised, 6 * 4800);
    EXPECT_EQ(request.policy.memory.quantised_blocks, 6 * 19);
    const int64_t masters = element == 2 ? 33384 * 4 : 0;
    EXPECT_EQ(part(phase(plan_memory(request), "update"), "optimizer"),
              masters + 2 * (6 * (4800 + 19 * 4) + (33384 - 6 * 4800) * 4));
  }
  // An adapter of r 8: A (8, 600) of down and B (600, 8) of gate and up, 4800 numbers each; the
  // other tensors have at most 8 · 16. r (in + out): q and o 128, k and v 96, three of 4864: 15040.
  LoraConfig lora;
  lora.r = 8;
  lora.target_modules = {"all-linear"};
  request.policy.memory = adapted_model(config, 4, lora);
  ASSERT_EQ(request.policy.memory.adapter, 2 * 15040);
  EXPECT_EQ(part(phase(plan_memory(request), "update"), "optimizer"),
            2 * (6 * (4800 + 19 * 4) + (2 * 15040 - 6 * 4800) * 4));
}

// What the plan counts is what the optimizer holds.
TEST(MemoryPlan, Adamw8bitIsWhatTheOptimizerTakes) {
  DecoderConfig config = tiny();
  config.inner = 600;
  MemoryRequest request = supervised();
  request.optimizer.kind = OptimizerKind::adamw_8bit;
  request.policy.memory = trained_model(config, 4);
  const Decoder decoder = Decoder::random(config, 1, at::kFloat, at::kCPU);
  const Optimizer optimizer(request.optimizer, decoder.trainable());
  EXPECT_EQ(part(phase(plan_memory(request), "update"), "optimizer"),
            static_cast<int64_t>(optimizer.state_bytes()));
}

TEST(MemoryPlan, AReferenceThatComesAndGoesIsThereWhileItIsAsked) {
  MemoryRequest request = supervised();
  request.head = HeadUse::logprobs;
  request.reference = {.memory = frozen_model(tiny(), 4), .stored = 4};
  const auto held = [&](const char* name) {
    return part(phase(plan_memory(request), name), "reference");
  };
  EXPECT_EQ(held("reference"), 7968);
  EXPECT_EQ(held("update"), 7968);
  request.reference->comes_and_goes = true;
  EXPECT_EQ(held("reference"), 7968);
  EXPECT_EQ(held("update"), 0);
}

TEST(MemoryPlan, CountsKeysAndValues) {
  MemoryRequest request = supervised();
  request.head = HeadUse::logprobs;
  request.rollout = RolloutMemory{.prompt_tokens = 20,
                                  .new_tokens = 33,
                                  .prompts = 3,
                                  .generations = 4,
                                  .rows = 128,
                                  .cache_bytes = int64_t{1} << 30};
  // A block of 16 tokens: 2 · 2 layers · 4 numbers · 16 · 4 bytes = 1024. Prompts take two blocks,
  // answers two (their last token is never asked again).
  const MemoryPhase rollout = phase(plan_memory(request), "rollout");
  EXPECT_EQ(part(rollout, "keys and values"), (3 * 2 + 12 * 2) * 1024);
  request.rollout->cache_bytes = 10 * 1024;
  EXPECT_EQ(part(phase(plan_memory(request), "rollout"), "keys and values"), 10 * 1024);
}

TEST(MemoryPlan, TheLargestMicrobatchFitsAndTheNextDoesNot) {
  MemoryRequest request = supervised();
  const int64_t available = plan_memory(request).bytes() + 100'000;
  const int64_t largest = largest_microbatch(request, available);
  request.tokens = largest;
  EXPECT_LE(plan_memory(request).bytes(), available);
  ++request.tokens;
  EXPECT_GT(plan_memory(request).bytes(), available);
  EXPECT_EQ(largest_microbatch(request, 1000), 0);
}

// 385 rows are two chunks of 193, but among the run's micro-batches may be one of 384.
TEST(MemoryPlan, MoreTokensNeverTakeLess) {
  MemoryRequest request = supervised();
  const auto planned = [&](int64_t tokens) {
    request.tokens = request.step_tokens = tokens;
    return plan_memory(request).bytes();
  };
  for (const int64_t tokens : {383, 384, 385, 767, 768, 769})
    EXPECT_LT(planned(tokens), planned(tokens + 1)) << tokens;
  EXPECT_EQ(largest_microbatch(request, planned(400)), 400);
}

TEST(MemoryPlan, AWholeStepMayFitWhereNoPartOfItDoes) {
  MemoryRequest request = supervised();
  request.tokens = request.step_tokens = 5;
  // Five tokens: graph 5 · 592 and 15% of it, head 5 · 400 + 3 · 5 · 32, the head's gradient 3200. Two
  // tokens behind three others: two fifths of that, and all gradients, 7968.
  const int64_t whole = plan_memory(request).bytes();
  request.tokens = 3;
  EXPECT_EQ(plan_memory(request).bytes() - whole, (7968 - 3200) - 3 * 592 - (444 - 177) - 3 * 496);
  EXPECT_EQ(largest_microbatch(request, whole), 5);
}

TEST(MicrobatchTokens, AreMoreWhereCompletionsShareTheirPrompts) {
  TrainingOptions training;
  RolloutOptions rollout;
  const auto of_group = [&](int64_t generations) {
    rollout.num_generations = generations;
    return microbatch_tokens(training, rollout);
  };
  EXPECT_EQ(microbatch_tokens(training), 768);
  EXPECT_EQ(of_group(1), 768);
  EXPECT_EQ(of_group(2), 1152);
  training.max_tokens_per_microbatch = 100;
  EXPECT_EQ(microbatch_tokens(training), 100);
  EXPECT_EQ(of_group(1), 100);
  EXPECT_EQ(of_group(2), 100);
}

using Arguments = std::vector<std::string>;

Arguments with(Arguments all, const Arguments& more) {
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

/// Folders with nothing in them but what a plan reads.
class PpoPlan : public ::testing::Test {
 protected:
  std::string model(const std::string& name) const {
    return folder_with(name, "config.json", tiny_json());
  }
  /// Rank 2 on queries and values, 2 · (16 + 12) numbers a layer; a reward model's, with a score head.
  std::string adapter(const std::string& name, const std::string& base) const {
    return folder_with(name, "adapter_config.json",
                       {{"peft_type", "LORA"},
                        {"task_type", "SEQ_CLS"},
                        {"r", 2},
                        {"target_modules", Json::array({"q_proj", "v_proj"})},
                        {"base_model_name_or_path", base}});
  }
  static RunMemory run(const std::string& policy, const std::string& reward,
                       const Arguments& more) {
    const Arguments arguments = {"--model_name_or_path",        policy, "--dataset_name", "d",
                                 "--reward_model_name_or_path", reward};
    return run_memory(read_ppo_config(with(arguments, more), nullptr));
  }
  static MemoryRequest planned(const std::string& policy, const std::string& reward,
                               const Arguments& more) {
    return memory_request(run(policy, reward, more));
  }

 private:
  std::string folder_with(const std::string& name, const char* file, const Json& content) const {
    const fs::path folder = temporary_.path() / name;
    fs::create_directories(folder);
    write_file(folder / file, content.dump());
    return folder.string();
  }
  testing::TemporaryFolder temporary_;
};

// tests/train/shared_base_test.cpp has the same of the models that a run loads.
TEST_F(PpoPlan, TheCriticStandsOnTheBaseOfARewardAdapter) {
  const std::string policy = model("policy");
  const std::string base = model("base");
  const std::string reward = adapter("reward", base);
  for (const char* dtype : {"float32", "bfloat16"}) {
    const auto request = planned(policy, reward, {"--use_peft", "true", "--dtype", dtype});
    EXPECT_FALSE(request.judge->shares_base) << dtype;
    EXPECT_TRUE(request.critic->shares_base) << dtype;
  }
  const MemoryPlan plan = plan_memory(planned(policy, reward, {"--use_peft", "true"}));
  // The base; its new score head of 8 numbers, the adapter's own one, and 112 of rank 2.
  EXPECT_EQ(part(phase(plan, "update"), "reward model"), (1992 + 8 + 8 + 112) * 4);
  EXPECT_EQ(part(phase(plan, "update"), "critic"), (8 + 8 + 112) * 4);
}

TEST_F(PpoPlan, TheCriticStandsOnFrozenWeightsOfItsFolderAndTypeAlone) {
  const std::string policy = model("policy");
  const std::string base = model("base");
  const std::string copy = model("copy");
  const std::string whole = model("whole");
  const std::string reward = adapter("reward", base);
  const auto shares = [&](const std::string& judge, const std::string& critic,
                          const Arguments& more) {
    return planned(policy, judge, with(more, {"--value_model_name_or_path", critic}))
        .critic->shares_base;
  };
  const Arguments lora = {"--use_peft", "true"};
  EXPECT_TRUE(shares(reward, base, lora));
  EXPECT_TRUE(shares(reward, policy, lora));
  EXPECT_TRUE(shares(reward, adapter("value", base), lora));
  EXPECT_FALSE(shares(reward, copy, lora));
  EXPECT_FALSE(shares(reward, adapter("other_value", copy), lora));
  EXPECT_FALSE(shares(reward, base, {})) << "a critic that is trained in full";
  EXPECT_TRUE(shares(whole, whole, lora));
  EXPECT_FALSE(shares(whole, whole, with(lora, {"--dtype", "bfloat16"})))
      << "a whole reward model is held in fp32";
}

TEST_F(PpoPlan, NobodyStandsOnARandomPolicy) {
  const std::string policy = model("policy");
  const std::string own = adapter("own", policy);
  const std::string other = adapter("other", model("base"));
  for (const bool random : {false, true}) {
    const Arguments lora = {"--use_peft", "true", "--from_scratch", random ? "true" : "false"};
    EXPECT_EQ(planned(policy, own, lora).judge->shares_base, !random);
    EXPECT_TRUE(planned(policy, other, lora).critic->shares_base) << "on the reward model";
    const Arguments on_policy = with(lora, {"--value_model_name_or_path", policy});
    EXPECT_EQ(planned(policy, other, on_policy).critic->shares_base, !random);
    EXPECT_EQ(planned(policy, own, on_policy).critic->shares_base, !random);
  }
}

TEST_F(PpoPlan, BothJudgesOfARunAreHeld) {
  const std::string policy = model("policy");
  const auto planned = [&](const Arguments& judges) {
    const Arguments arguments = {"--model_name_or_path", policy, "--dataset_name", "d"};
    return plan_memory(
        memory_request(run_memory(read_grpo_config(with(arguments, judges), nullptr))));
  };
  const std::string rewards = model("rewards");
  const std::string steps = model("steps");
  const Arguments one = {"--reward_model_name_or_path", rewards};
  const MemoryPlan both = planned(with(one, {"--process_reward_model_name_or_path", steps}));
  EXPECT_EQ(part(phase(both, "update"), "reward model"), 1992 * 4);
  EXPECT_EQ(part(phase(both, "update"), "process reward model"), 1992 * 4);
  const auto total = [](const MemoryPhase& all) {
    int64_t bytes = 0;
    for (const auto& each : all.parts) bytes += each.bytes;
    return bytes;
  };
  EXPECT_EQ(total(phase(both, "update")) - total(phase(planned(one), "update")), 1992 * 4);
}

// Four completions of 1,000 tokens behind prompts of 100: no limit of a drawn one is theirs.
TEST_F(PpoPlan, OfAReplayHasItsLengthsAndDrawsNothing) {
  const Arguments arguments = {"--model_name_or_path",
                               model("policy"),
                               "--replay_completions",
                               "recorded.jsonl",
                               "--per_device_train_batch_size",
                               "4",
                               "--num_generations",
                               "4"};
  RunMemory run = run_memory(read_grpo_config(arguments, nullptr));
  fit_rows(run, /*longest=*/1100, {});
  const MemoryRequest request = memory_request(run);
  EXPECT_FALSE(request.rollout.has_value());
  EXPECT_EQ(request.step_tokens, 4400);
  EXPECT_EQ(request.tokens, 1152);
}

// Eight completions of at most 53 tokens behind prompts of 512: more than a micro-batch.
TEST_F(PpoPlan, MicroBatchesOfGroupsAreLarger) {
  const std::string policy = model("policy");
  const auto tokens = [&](const char* generations) {
    return planned(policy, policy, {"--num_generations", generations}).tokens;
  };
  EXPECT_EQ(tokens("1"), 768);
  EXPECT_EQ(tokens("2"), 1152);
}

class MemoryCheck : public ::testing::Test {
 protected:
  RunMemory run() const {
    const std::string model = std::string(RLHF_FIXTURES) + "/train/model";
    return run_memory(
        read_sft_config(std::vector<std::string>{"--model_name_or_path", model, "--dataset_name",
                                                 "d", "--gradient_checkpointing", "false"},
                        nullptr));
  }
  int64_t planned() const { return plan_memory(memory_request(run())).bytes(); }
};

TEST_F(MemoryCheck, RefusesWhatDoesNotFitAndSaysWhatWould) {
  try {
    check_memory(run(), /*on_cpu=*/true, {.available = planned() / 2, .used_here = 0});
    FAIL() << "a run of twice the memory was expected to be refused";
  } catch (const UserError& error) {
    const std::string text = error.problems().front().text();
    EXPECT_NE(text.find("[memory] about "), std::string::npos) << text;
    EXPECT_NE(text.find("HINT: set "), std::string::npos) << text;
    EXPECT_NE(text.find("gradient_checkpointing: true (saves "), std::string::npos) << text;
  }
}

TEST_F(MemoryCheck, LetsThroughWhatFitsWithinItsError) {
  const int64_t within = planned() * 95 / 100;
  EXPECT_NO_THROW(check_memory(run(), /*on_cpu=*/true, {.available = within, .used_here = 0}));
  // What is in use already need not be free.
  EXPECT_NO_THROW(
      check_memory(run(), /*on_cpu=*/true, {.available = within / 2, .used_here = planned() / 2}));
  EXPECT_NO_THROW(check_memory(run(), /*on_cpu=*/false, {.available = 1, .used_here = 0}));
  EXPECT_NO_THROW(check_memory(run(), /*on_cpu=*/true, {.available = 0, .used_here = 0}));
}

// The program alone takes more than 100 MiB, what is trained is tiny: the rows are what does not fit.
TEST_F(MemoryCheck, LooksAtWhatIsLoadedBeforeAtRows) {
  constexpr int64_t kMebibyte = int64_t{1} << 20;
  RunMemory large = run();
  large.longest_row = 1'000'000;
  const MachineMemory machine{.available = 300 * kMebibyte, .used_here = 0};
  EXPECT_NO_THROW(check_least_memory(large, /*on_cpu=*/true, machine));
  try {
    check_memory(large, /*on_cpu=*/true, machine);
    FAIL() << "a row of a million tokens was expected to be refused";
  } catch (const UserError& error) {
    EXPECT_NE(error.problems().front().text().find("max_length: 500000 (saves "), std::string::npos)
        << error.what();
  }
  const MachineMemory small{.available = 20 * kMebibyte, .used_here = 0};
  EXPECT_THROW(check_least_memory(large, /*on_cpu=*/true, small), UserError);
  EXPECT_NO_THROW(check_least_memory(large, /*on_cpu=*/false, small));
  // Who loads the model says that there is none.
  large.common.model.model_name_or_path = "/nowhere";
  EXPECT_NO_THROW(check_least_memory(large, /*on_cpu=*/true, small));
}

// A prompt of 512 tokens with 256 new ones, of a group: more than half a micro-batch of 1,152.
TEST_F(PpoPlan, OffersShorterRowsOfBothKinds) {
  const std::string policy = model("policy");
  std::set<std::string> offered;
  for (const auto& saving : memory_savings(run(policy, policy, {"--max_completion_length", "256"})))
    offered.insert(saving.set);
  EXPECT_TRUE(offered.contains("max_prompt_length: 256"));
  EXPECT_TRUE(offered.contains("max_completion_length: 128"));
}

// The fixture's tensors are below 4096 numbers but for those of an adapter of r 128: 128 · 32.
TEST_F(MemoryCheck, Offers8BitsWhereTheySave) {
  const auto saving = [](const RunMemory& asked, const std::string& set) -> int64_t {
    for (const auto& one : memory_savings(asked)) {
      if (one.set == set) return one.bytes;
    }
    return 0;
  };
  EXPECT_EQ(saving(run(), "optim: adamw_8bit"), 0);
  RunMemory adapted = run();
  adapted.common.lora.use_peft = true;
  adapted.common.lora.lora_r = 128;
  EXPECT_GT(saving(adapted, "optim: adamw_8bit"), 0);
  EXPECT_GT(saving(adapted, "optim: adafactor"), saving(adapted, "optim: adamw_8bit"));
  adapted.common.training.optim = OptimizerChoice::adamw_8bit;
  EXPECT_EQ(saving(adapted, "optim: adamw_8bit"), 0);
  EXPECT_GT(saving(adapted, "optim: adafactor"), 0);
}

TEST(MachineMemory, TakesTheTighterOfMachineAndControlGroup) {
  const testing::TemporaryFolder temporary;
  const auto root = temporary.path();
  const auto write = [&](const std::string& name, const std::string& text) {
    fs::create_directories((root / name).parent_path());
    write_file(root / name, text);
  };
  write("proc/meminfo", "MemTotal:  9000 kB\nMemAvailable:    4000 kB\n");
  write("proc/self/status", "Name:\trlhf\nVmRSS:\t  700 kB\n");
  EXPECT_EQ(machine_memory(root).available, 4000 * 1024);
  EXPECT_EQ(machine_memory(root).used_here, 700 * 1024);
  // The group itself has no limit, the one around it leaves 1,000,000 − 600,000 + 50,000.
  write("proc/self/cgroup", "0::/outer/inner\n");
  write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  write("sys/fs/cgroup/outer/inner/memory.current", "500000\n");
  write("sys/fs/cgroup/outer/memory.max", "1000000\n");
  write("sys/fs/cgroup/outer/memory.current", "600000\n");
  write("sys/fs/cgroup/outer/memory.stat", "anon 1\ninactive_file 50000\n");
  EXPECT_EQ(machine_memory(root).available, 450000);
}

}  // namespace
}  // namespace rlhf
