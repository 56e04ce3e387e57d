// Byte counts worked by hand for a model of 1992 numbers.
//
//   V 100, C 8, L 2, H 2, K 1, D 4, F 16, tied.
//   embedding 800; a layer: norms 8 + 8, q 64, k 32, v 32, o 64, gate, up and down 128 each: 592;
//   last norm 8: 800 + 2 · 592 + 8 = 1992.
#include "rlhf/train/memory_plan.h"

#include <gtest/gtest.h>

#include "rlhf/train/memory_run.h"
#include "rlhf/train/run.h"
#include "tests/train/memory_parts.h"

namespace rlhf {
namespace {

using testing::part;
using testing::phase;
using testing::tiny_json;

DecoderConfig tiny() {
  Problems problems;
  DecoderConfig config = read_config(tiny_json(), "config.json", problems);
  problems.throw_if_any();
  return config;
}

MemoryRequest supervised() {
  MemoryRequest request;
  request.policy = {.memory = trained_model(tiny(), 4)};
  request.head = HeadUse::supervised;
  request.size.tokens = request.step_tokens = 10;
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

// Two samples of four tokens behind a prompt of four: the prompt's pass, 4 · (3F + 5C) · 4 = 1408, is
// more than two rows of logits.
TEST(MemoryPlan, SamplingTakesThePromptsPassOrTheLogits) {
  MemoryRequest request = supervised();
  request.head = HeadUse::logprobs;
  request.rollout = {.prompt_tokens = 4,
                     .new_tokens = 4,
                     .prompts = 1,
                     .generations = 2,
                     .rows = 8,
                     .cache_bytes = 1 << 20};
  const auto sampling = [&] { return part(phase(plan_memory(request), "rollout"), "sampling"); };
  EXPECT_EQ(sampling(), 1408);
  request.rollout->prompt_tokens = 2;
  EXPECT_EQ(sampling(), 2 * 100 * 4);
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
  request.size.tokens = request.step_tokens = 20;
  // 20 tokens · 2 layers · 8 numbers.
  EXPECT_EQ(part(phase(plan_memory(request), "update"), "activations"), 1280);
  // A tenth of the head's buffers, 20 · 400 + 3 · 20 · 32, and of its gradient, 3200; and what the pass before
  // left of its widest place, 3 · 16 + 5 · 8 numbers a token.
  EXPECT_EQ(part(phase(plan_memory(request), "update"), "fragmentation"), 1312 + 20 * 88 * 4);
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
  request.size.tokens = request.step_tokens = largest;
  EXPECT_LE(plan_memory(request).bytes(), available);
  ++request.size.tokens;
  ++request.step_tokens;
  EXPECT_GT(plan_memory(request).bytes(), available);
  EXPECT_EQ(largest_microbatch(request, 1000), 0);
}

// 385 rows are two chunks of 193, but among the run's micro-batches may be one of 384.
TEST(MemoryPlan, MoreTokensNeverTakeLess) {
  MemoryRequest request = supervised();
  const auto planned = [&](int64_t tokens) {
    request.size.tokens = request.step_tokens = tokens;
    return plan_memory(request).bytes();
  };
  for (const int64_t tokens : {383, 384, 385, 767, 768, 769})
    EXPECT_LT(planned(tokens), planned(tokens + 1)) << tokens;
  EXPECT_EQ(largest_microbatch(request, planned(400)), 400);
}

TEST(MemoryPlan, AWholeStepMayFitWhereNoPartOfItDoes) {
  MemoryRequest request = supervised();
  request.size.tokens = request.step_tokens = 5;
  // Five tokens: graph 5 · 592, head 5 · 400 + 3 · 5 · 32, the head's gradient 3200, and a tenth of both
  // for holes. Two tokens behind three others: two fifths of graph and head, and all gradients, 7968.
  const int64_t whole = plan_memory(request).bytes();
  request.size.tokens = 3;
  EXPECT_EQ(plan_memory(request).bytes() - whole, (7968 - 3200) - 3 * 592 - 3 * 496 + (896 - 568));
  EXPECT_EQ(largest_microbatch(request, whole), 5);
}

// Scores of no row: a token's graph takes (2 · 74 − 40) · 4 = 432 bytes, and at the backward's entry
// (2F + 2C) · 4 = 192 less what the last layer gives back, 296 − 160. All gradients take 1992 · 4 and a
// tenth for holes, 8764; the head's, 100 · 8 · 4 and a tenth, 3520, are there from the start.
TEST(MemoryPlan, TheFirstMicrobatchMayBeLargerByWhatGradientsTake) {
  MemoryRequest request = supervised();
  request.head = HeadUse::scores;
  request.scored_share = 0.0;
  const auto start = [&](int64_t tokens) {
    return head_start(request, request.policy.memory, request.head, tokens);
  };
  EXPECT_EQ(start(100), 10);  // (8764 − 3520) / 488
  EXPECT_EQ(start(5), 5);     // at most as many again
}

TEST(MemoryPlan, MicrobatchesBehindTheFirstAreSmall) {
  MemoryRequest request = supervised();
  request.size = {.tokens = 100, .most_first = 200, .head_start = 60};
  const auto parts = [&](int64_t step, int64_t row) {
    request.step_tokens = step;
    request.row_tokens = row;
    const StepTokenLimits planned = planned_microbatches(request);
    return std::pair(planned.first, planned.others);
  };
  EXPECT_EQ(parts(90, 1), std::pair(90L, 0L));
  // Two: 105 and 45 stand for the same peak; a step of 100 tokens is one micro-batch.
  EXPECT_EQ(parts(150, 1), std::pair(105L, 45L));
  EXPECT_EQ(parts(150, 50), std::pair(110L, 50L));
  // Two rows of 75 that could not go together where all may have 100 tokens.
  EXPECT_EQ(parts(150, 75), std::pair(135L, 75L));
  // Three of 290: 77 and twice that; but 200 are two, and leave 70.
  EXPECT_EQ(parts(290, 1), std::pair(137L, 77L));
  EXPECT_EQ(parts(210, 1), std::pair(130L, 70L));
  // A limit that is asked for.
  request.size.most_first = 100;
  EXPECT_EQ(parts(150, 1), std::pair(100L, 50L));
  // Rows in order.
  request.size.most_first = 0;
  EXPECT_EQ(parts(150, 1), std::pair(100L, 50L));
  EXPECT_EQ(parts(290, 1), std::pair(100L, 100L));
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

}  // namespace
}  // namespace rlhf
