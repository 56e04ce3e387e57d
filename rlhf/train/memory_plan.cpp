#include "rlhf/train/memory_plan.h"

#include <algorithm>
#include <cmath>

#include "rlhf/generate/engine.h"
#include "rlhf/generate/kv_cache.h"
#include "rlhf/generate/score.h"
#include "rlhf/math/head_tiles.h"

namespace rlhf {
namespace {

constexpr int64_t kMebibyte = int64_t{1} << 20;
constexpr int64_t kFloat = 4;

// What measured peaks leave beside the other parts (docs/memory.md): the program and libtorch with its
// threads, and the matrix library's packed panels.
constexpr int64_t kProgramBytes = 175 * kMebibyte;
// A tokenizer in memory beside its file, and the JSON that it was read from.
constexpr int64_t kTextFactor = 20;
// Measured: holes that no later request fits, as a share of gradients, which come while activations
// leave, and of the head's buffers.
constexpr int64_t kFragmentationPercent = 10;

using Parts = std::vector<MemoryPart>;

int64_t sum_of(const Parts& parts) {
  int64_t sum = 0;
  for (const auto& part : parts) sum += part.bytes;
  return sum;
}

int64_t holes(int64_t bytes) { return bytes * kFragmentationPercent / 100; }

void put(Parts& parts, const char* name, int64_t bytes) {
  if (bytes > 0) parts.push_back({name, bytes});
}

bool narrow(const ModelMemory& model) { return model.element < kFloat; }

/// Bytes of a model's weights; where it stands on another role's, of its own alone.
int64_t weight_bytes(const HeldModel& held) {
  const ModelMemory& model = held.memory;
  const int64_t own =
      held.shares_base ? model.config.width * model.config.labels : model.parameters;
  const int64_t copies = model.adapter > 0 || held.shares_base ? model.trained : 0;
  return (own + copies) * model.element + model.adapter * kFloat;
}

/// fp32 masters and moments.
int64_t optimizer_bytes(const ModelMemory& model, const OptimizerOptions& options) {
  if (!model.trains()) return 0;
  const int64_t trained = model.trained + model.adapter;
  const int64_t masters = narrow(model) ? model.trained * kFloat : 0;
  switch (options.kind) {
    case OptimizerKind::adamw:
      return masters + 2 * trained * kFloat;
    case OptimizerKind::adamw_8bit:
      return masters + 2 * (trained - model.quantised + model.quantised_blocks) * kFloat +
             2 * model.quantised;
    case OptimizerKind::sgd:
      return masters + (options.momentum != 0.0 ? trained * kFloat : 0);
    case OptimizerKind::adafactor:
      return masters + model.factored * kFloat;
  }
  return masters;
}

int64_t gradient_bytes(const ModelMemory& model) {
  return model.trained * model.element + model.adapter * kFloat;
}

/// What an update takes beside its gradients: copies of the largest gradient.
int64_t update_bytes(const ModelMemory& model, const OptimizerOptions& options) {
  const int64_t largest = (model.embedding_trains ? model.vocabulary_numbers()
                                                  : model.config.width * model.config.inner) *
                          kFloat;
  switch (options.kind) {
    case OptimizerKind::adamw:
    case OptimizerKind::adamw_8bit:
      return 0;
    case OptimizerKind::sgd:
      return 2 * largest;
    case OptimizerKind::adafactor:
      return 3 * largest;
  }
  return 0;
}

/// A score head's gradient is small; a language model's is as large as the vocabulary.
int64_t head_gradient_bytes(const ModelMemory& model) {
  return model.head_trains ? model.vocabulary_numbers() * model.element : 0;
}

/// One tile of logits, and of the weight where it is widened.
int64_t tile_bytes(const ModelMemory& model, int64_t rows) {
  const int64_t vocab = model.config.vocab_size;
  const int64_t chunk = head_chunk_rows(rows, vocab, kFloat, /*wanted=*/0);
  const int64_t columns = std::min(vocab, head_tile_columns(chunk, vocab));
  const int64_t widened = narrow(model) ? columns * model.config.width * kFloat : 0;
  return std::min(chunk, rows) * columns * kFloat + widened;
}

/// What the head holds at its widest moment, its weight's gradient apart.
int64_t head_bytes(const ModelMemory& model, HeadUse use, int64_t rows, int64_t keep_logits) {
  const DecoderConfig& config = model.config;
  const int64_t hidden = rows * config.width * kFloat;
  const int64_t widened =
      narrow(model) && model.head_trains ? model.vocabulary_numbers() * kFloat : 0;
  if (use == HeadUse::scores) return 2 * hidden;
  if (use == HeadUse::supervised) {
    // Other micro-batches have other numbers of rows: the largest chunk of as many or fewer.
    const int64_t chunk = std::min(rows, supervised_most_rows(config.vocab_size, kFloat));
    const int64_t buffer = chunk * config.vocab_size * kFloat;
    return buffer + 3 * hidden + widened;
  }
  if (!model.head_trains) return tile_bytes(model, rows) + 4 * hidden;
  const int64_t kept = std::min(rows * config.vocab_size * kFloat, keep_logits);
  return kept + tile_bytes(model, rows) + 3 * hidden + widened;
}

/// A pass of a frozen model up to the log-probabilities of its rows, or to its scores.
int64_t frozen_pass_bytes(const ModelMemory& model, int64_t tokens) {
  const int64_t head = model.config.is_classifier() ? 0 : tile_bytes(model, tokens);
  const int64_t rows = 2 * tokens * model.config.width * kFloat;
  return std::max(tokens * pass_bytes(model), head + rows);
}

/// What the graph of a micro-batch keeps, and with checkpointing one layer of it made again.
struct Graph {
  int64_t kept = 0;
  int64_t again = 0;
  int64_t passed = 0;    ///< what a pass without gradients leaves with the allocator
  int64_t backward = 0;  ///< gradients on their way through a layer, while all of `kept` is there
};

Graph graph_of(const MemoryRequest& request, const ModelMemory& model, int64_t tokens,
               int64_t rows) {
  // Behind its attention the last layer goes on with the scored rows alone. What it kept is free when
  // the gradients of all tokens pass through the layer before it.
  const int64_t left_out = (tokens - rows) * last_mlp_bytes(model);
  const int64_t last = tokens * layer_bytes(model, model.layers.size() - 1) - left_out;
  Graph graph{.kept = tokens * graph_bytes(model) - left_out};
  graph.backward = std::max(rows * backward_bytes(model), tokens * backward_bytes(model) - last);
  if (request.checkpointing) {
    graph.kept = tokens * model.config.layers * model.config.width * model.element;
    for (size_t i = 0; i < model.layers.size(); ++i)
      graph.again = std::max(graph.again, tokens * layer_bytes(model, i));
    graph.passed = tokens * pass_bytes(model);
    graph.backward = tokens * backward_bytes(model);
  }
  return graph;
}

/// The moments of a micro-batch that meets `before` bytes of gradients.
void add_pass(const MemoryRequest& request, const ModelMemory& model, HeadUse head, int64_t tokens,
              int64_t before, std::vector<Parts>& moments) {
  // From the second micro-batch on the head's own products add to the gradient that is there, but where
  // theirs has to be narrowed first.
  const bool first = before == 0;
  const bool apart = first || narrow(model);
  const int64_t of_head = head_gradient_bytes(model);
  const auto rows =
      static_cast<int64_t>(std::ceil(static_cast<double>(tokens) * request.scored_share));
  const Graph graph = graph_of(request, model, tokens, rows);
  // 1. The head: all activations wait, its own gradient is made.
  Parts at_head;
  const int64_t head_buffers = head_bytes(model, head, rows, request.keep_logits_bytes);
  const int64_t at_head_gradients = before + (apart ? of_head : 0);
  put(at_head, "activations", graph.kept);
  put(at_head, "head", head_buffers);
  put(at_head, "gradients", at_head_gradients);
  put(at_head, "fragmentation", holes(head_buffers + at_head_gradients) + graph.passed);
  moments.push_back(std::move(at_head));
  // 2. The backward enters the layers.
  Parts entry;
  const int64_t entry_gradients = before + (first ? of_head : 0);
  put(entry, "activations", graph.kept);
  put(entry, "recomputed layer", graph.again);
  put(entry, "backward", graph.backward);
  put(entry, "gradients", entry_gradients);
  put(entry, "fragmentation", holes(entry_gradients));
  moments.push_back(std::move(entry));
}

/// The backward is done: all gradients are there, summed where they are kept.
Parts last_moment(const MemoryRequest& request, const ModelMemory& model) {
  Parts last;
  put(last, "gradients", gradient_bytes(model));
  put(last, "update", update_bytes(model, request.optimizer));
  put(last, "fragmentation", holes(gradient_bytes(model)));
  return last;
}

StepTokenLimits largest_parts(const MicrobatchSize& size, int64_t step, int64_t row) {
  step = std::max<int64_t>(1, step);
  row = std::min(row, step);
  const int64_t tokens = std::min(std::max(size.tokens, row), step);
  const int64_t count = (step + tokens - 1) / tokens;
  if (count <= 1) return {tokens, 0};
  if (size.most_first == 0) return {tokens, std::min(tokens, step - tokens)};
  // Of n full micro-batches, a smaller step, what is left to the others is the n-th part of the head
  // start less than their limit.
  const auto others = [&](int64_t of_step, int64_t parts) {
    const int64_t behind = std::max<int64_t>(0, of_step - size.head_start);
    const int64_t rest = std::max<int64_t>(0, of_step - size.most_first);
    return std::max((behind + parts - 1) / parts, (rest + parts - 2) / (parts - 1));
  };
  int64_t most = others(step, count);
  if (const int64_t full = step / tokens; full > 1)
    most = std::max(most, others(full * tokens, full));
  most = std::min(tokens, std::max(most, std::min(row, step - row)));
  const int64_t first = std::min({most + size.head_start, size.most_first, step - 1});
  return {std::max(tokens, first), most};
}

/// The moments of one model's update.
std::vector<Parts> update_moments(const MemoryRequest& request, const ModelMemory& model,
                                  HeadUse head, const MicrobatchSize& size) {
  std::vector<Parts> moments;
  const StepTokenLimits parts = largest_parts(size, request.step_tokens, request.row_tokens);
  add_pass(request, model, head, parts.first, /*before=*/0, moments);
  if (parts.others > 0)
    add_pass(request, model, head, parts.others, gradient_bytes(model), moments);
  moments.push_back(last_moment(request, model));
  return moments;
}

/// The critic's and the policy's, one behind the other.
std::vector<Parts> policy_and_critic(const MemoryRequest& request) {
  std::vector<Parts> moments =
      update_moments(request, request.policy.memory, request.head, request.size);
  if (!request.critic) return moments;
  for (Parts& moment :
       update_moments(request, request.critic->memory, HeadUse::scores, request.critic_size))
    moments.push_back(std::move(moment));
  return moments;
}

Parts largest(const std::vector<Parts>& moments) {
  return *std::max_element(moments.begin(), moments.end(),
                           [](const Parts& a, const Parts& b) { return sum_of(a) < sum_of(b); });
}

/// What is in memory from set-up to the end.
struct Residents {
  Parts parts;

  MemoryPhase phase(std::string name, Parts moment) const {
    MemoryPhase made{.name = std::move(name), .parts = parts};
    made.parts.insert(made.parts.end(), moment.begin(), moment.end());
    return made;
  }
};

Parts program_parts(const MemoryRequest& request) {
  Parts parts;
  put(parts, "program and libraries", kProgramBytes);
  put(parts, "tokenizer", request.text_bytes * kTextFactor);
  put(parts, "encoded rows", request.data_bytes);
  return parts;
}

Residents residents_of(const MemoryRequest& request) {
  Residents held{.parts = program_parts(request)};
  put(held.parts, "policy", weight_bytes(request.policy));
  if (request.reference && !request.reference->comes_and_goes)
    put(held.parts, "reference", weight_bytes(*request.reference));
  if (request.judge) put(held.parts, "reward model", weight_bytes(*request.judge));
  if (request.step_judge)
    put(held.parts, "process reward model", weight_bytes(*request.step_judge));
  put(held.parts, "optimizer", optimizer_bytes(request.policy.memory, request.optimizer));
  if (request.critic) {
    put(held.parts, "critic", weight_bytes(*request.critic));
    put(held.parts, "critic's optimizer",
        optimizer_bytes(request.critic->memory, request.optimizer));
  }
  return held;
}

/// Models are read one behind the other: a model's file is in memory while its numbers are copied
/// or converted.
MemoryPhase load_phase(const MemoryRequest& request) {
  Parts parts = program_parts(request);
  int64_t held = 0;
  int64_t peak = 0;
  const auto load = [&](const HeldModel& model) {
    const bool mapped =
        model.memory.trained < model.memory.parameters && model.stored == model.memory.element;
    const bool read = !model.shares_base && !model.random;
    const int64_t file = read && !mapped ? model.memory.parameters * model.stored : 0;
    held += weight_bytes(model);
    peak = std::max(peak, held + file);
  };
  load(request.policy);
  if (request.judge) load(*request.judge);
  if (request.step_judge) load(*request.step_judge);
  if (request.critic) load(*request.critic);
  if (request.critic) held += optimizer_bytes(request.critic->memory, request.optimizer);
  held += optimizer_bytes(request.policy.memory, request.optimizer);
  if (request.reference && !request.reference->comes_and_goes) load(*request.reference);
  put(parts, "models and their files", std::max(held, peak));
  return {.name = "load", .parts = std::move(parts)};
}

int64_t cache_bytes(const ModelMemory& model, const RolloutMemory& rollout) {
  const int64_t block =
      KvCache::block_bytes(model.config, narrow(model) ? at::kBFloat16 : at::kFloat);
  const int64_t rows = std::min(rollout.rows, rollout.prompts * rollout.generations);
  const int64_t prompts =
      std::min(rollout.prompts, (rows + rollout.generations - 1) / rollout.generations + 1);
  const int64_t blocks =
      prompts * blocks_for(rollout.prompt_tokens) + rows * blocks_for(rollout.new_tokens - 1);
  return std::min(blocks * block, rollout.cache_bytes);
}

Parts drawing_moment(const MemoryRequest& request) {
  const ModelMemory& model = request.policy.memory;
  const RolloutMemory& rollout = *request.rollout;
  const int64_t rows = std::min(rollout.rows, rollout.prompts * rollout.generations);
  const int64_t prefill =
      std::max(rollout.prompt_tokens,
               std::min(EngineOptions().prefill_tokens, rollout.prompts * rollout.prompt_tokens));
  const int64_t logits = rows * model.config.vocab_size * (narrow(model) ? kFloat + 2 : kFloat);
  Parts drawing;
  put(drawing, "keys and values", cache_bytes(model, rollout));
  put(drawing, "sampling", std::max(logits, prefill * pass_bytes(model)));
  // One judge after the other.
  int64_t pass = 0;
  const int64_t all =
      rollout.prompts * rollout.generations * (rollout.prompt_tokens + rollout.new_tokens);
  for (const auto* judge : {&request.judge, &request.step_judge}) {
    if (!*judge) continue;
    pass = std::max(pass,
                    frozen_pass_bytes((*judge)->memory, std::min(ScoreOptions().max_tokens, all)));
  }
  Parts judging;
  put(judging, "reward pass", pass);
  return sum_of(judging) > sum_of(drawing) ? judging : drawing;
}

}  // namespace

int64_t MemoryPhase::bytes() const { return sum_of(parts); }

const MemoryPhase& MemoryPlan::peak() const {
  return *std::max_element(
      phases.begin(), phases.end(),
      [](const MemoryPhase& a, const MemoryPhase& b) { return a.bytes() < b.bytes(); });
}

MemoryPlan plan_memory(const MemoryRequest& request) {
  MemoryPlan plan;
  const Residents held = residents_of(request);
  plan.phases.push_back(load_phase(request));
  const std::vector<Parts> update = policy_and_critic(request);
  if (request.rollout) plan.phases.push_back(held.phase("rollout", drawing_moment(request)));
  const auto& asked = request.table_reference ? request.table_reference : request.reference;
  if (asked || request.asks_reference) {
    Parts asking;
    if (request.table_reference || (asked && asked->comes_and_goes))
      put(asking, "reference", weight_bytes(*asked));
    put(asking, "reference pass",
        frozen_pass_bytes(asked ? asked->memory : request.policy.memory,
                          planned_microbatches(request).first));
    plan.phases.push_back(held.phase("reference", std::move(asking)));
  }
  plan.phases.push_back(held.phase("update", largest(update)));
  return plan;
}

StepTokenLimits planned_microbatches(const MemoryRequest& request) {
  return largest_parts(request.size, request.step_tokens, request.row_tokens);
}

int64_t head_start(const MemoryRequest& request, const ModelMemory& model, HeadUse head,
                   int64_t tokens) {
  const auto bytes = [&](int64_t of_tokens, int64_t before) {
    std::vector<Parts> moments;
    add_pass(request, model, head, of_tokens, before, moments);
    return sum_of(largest(moments));
  };
  const int64_t behind = bytes(tokens, gradient_bytes(model));
  int64_t fits = 0;
  for (int64_t high = tokens + 1; high - fits > 1;) {
    const int64_t middle = fits + (high - fits) / 2;
    (bytes(tokens + middle, 0) <= behind ? fits : high) = middle;
  }
  return fits;
}

int64_t largest_microbatch(MemoryRequest request, int64_t available) {
  constexpr int64_t kMost = int64_t{1} << 24;
  request.row_tokens = 1;
  const auto fits = [&](int64_t tokens, int64_t step) {
    // A limit that is asked for holds of the first micro-batch, too.
    for (auto* size : {&request.size, &request.critic_size}) {
      size->tokens = tokens;
      if (size->most_first > 0) size->most_first = tokens;
    }
    request.step_tokens = std::max(step, tokens);
    return plan_memory(request).bytes() <= available;
  };
  const auto largest = [&](int64_t step, int64_t high) {
    int64_t low = 0;
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      (fits(middle, step) ? low : high) = middle;
    }
    return low;
  };
  // With one micro-batch a step's gradients stand beside nothing: a whole step may fit where no part
  // of it does. Behind one of more than half a step comes a smaller one.
  const int64_t step = request.step_tokens;
  const int64_t first = largest(/*step=*/0, kMost);
  if (first >= step || fits(first, step)) return first;
  return largest(step, std::min(first, step / 2) + 1);
}

}  // namespace rlhf
