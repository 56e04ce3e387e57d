#include "rlhf/generate/engine.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "rlhf/core/log.h"
#include "rlhf/generate/cached_attention.h"
#include "rlhf/generate/growing_completion.h"
#include "rlhf/generate/interrupted.h"
#include "rlhf/generate/kv_cache.h"
#include "rlhf/kernels/thin_product.h"
#include "rlhf/math/linear_logprobs.h"
#include "rlhf/nn/packed_batch.h"

namespace rlhf {
namespace {

/// Tokens of an answer whose keys are ever needed: all but the last.
int64_t answer_blocks(const SamplingOptions& options) {
  return blocks_for(options.max_new_tokens - 1);
}

/// Blocks of as many rows as may be at work together, each behind a prompt of its own, and of one
/// prompt more, which waits for its next sample.
int64_t blocks_at_once(std::span<const Prompt> prompts, const SamplingOptions& options,
                       int64_t max_rows) {
  int64_t longest = 0;
  int64_t all = 0;
  for (const Prompt& prompt : prompts) {
    const int64_t blocks = blocks_for(std::ssize(prompt.ids));
    longest = std::max(longest, blocks);
    all += blocks;
  }
  const int64_t rows = std::min(max_rows, std::ssize(prompts) * options.num_generations);
  const int64_t at_once = std::min(rows, std::ssize(prompts) - 1) + 1;
  return std::min(all, at_once * longest) + rows * answer_blocks(options);
}

int64_t blocks_of_sample(const Prompt& prompt, const SamplingOptions& options) {
  return blocks_for(static_cast<int64_t>(prompt.ids.size())) + answer_blocks(options);
}

/// Blocks promised to a prompt or a row, counted in `total` while it lives.
class Reservation {
 public:
  Reservation(int64_t& total, int64_t blocks) : total_(total), blocks_(blocks) {
    total_ += blocks_;
  }
  ~Reservation() { total_ -= blocks_; }
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;

 private:
  int64_t& total_;
  int64_t blocks_;
};

/// A prompt in the cache, kept by its running samples and by the queue while samples wait.
struct CachedPrompt {
  CachedPrompt(int64_t index_, KvCache& cache, int64_t& reserved, int64_t tokens)
      : index(index_), reservation(reserved, blocks_for(tokens)), blocks(cache) {}

  int64_t index;
  Reservation reservation;
  BlockList blocks;
  at::Tensor last_hidden;  // (C), of its last token
};

/// A running sample.
struct Row {
  Row(std::shared_ptr<CachedPrompt> prompt_, int64_t sample_, KvCache& cache, int64_t& reserved,
      const Prompt& source, const SamplingOptions& options)
      : prompt(std::move(prompt_)),
        sample(sample_),
        reservation(reserved, answer_blocks(options)),
        answer(cache),
        completion(source, sample_, options) {}

  std::shared_ptr<CachedPrompt> prompt;
  int64_t sample;
  Reservation reservation;
  BlockList answer;
  GrowingCompletion completion;
};

/// One call of Engine::generate().
class Run {
 public:
  Run(const Decoder& decoder, const EngineOptions& engine, std::span<const Prompt> prompts,
      const SamplingOptions& options, const GenerateCallbacks& callbacks, int64_t blocks,
      GenerateStats& stats)
      : decoder_(decoder),
        engine_(engine),
        prompts_(prompts),
        options_(options),
        callbacks_(callbacks),
        stats_(stats),
        cache_(decoder.config(), decoder.dtype(), decoder.device(), blocks) {
    completions_.resize(prompts.size());
    for (auto& samples : completions_) {
      samples.resize(static_cast<size_t>(options.num_generations));
    }
  }

  std::vector<std::vector<Completion>> operator()() {
    while (next_prompt_ < prompts_.size() || !rows_.empty()) {
      if (callbacks_.should_stop && callbacks_.should_stop()) throw Interrupted();
      const size_t running = rows_.size();
      prefill(admit());
      check(!rows_.empty(), "generate", "expected room for a sample in the cache of {} blocks",
            cache_.blocks());
      if (rows_.size() > running) {
        choose_first_tokens(running);
      } else {
        decode();
      }
      drop_finished();
    }
    stats_.blocks_in_use = cache_.blocks() - cache_.free_blocks();
    return std::move(completions_);
  }

 private:
  std::vector<CachedPrompt*> admit();
  void prefill(const std::vector<CachedPrompt*>& prompts);
  void choose_first_tokens(size_t begin);
  void decode();
  void choose(size_t begin, const at::Tensor& hidden);
  void accept(Row& row, const ChosenToken& token);
  void drop_finished();

  const Decoder& decoder_;
  const EngineOptions& engine_;
  std::span<const Prompt> prompts_;
  const SamplingOptions& options_;
  const GenerateCallbacks& callbacks_;
  GenerateStats& stats_;
  KvCache cache_;
  int64_t reserved_ = 0;
  size_t next_prompt_ = 0;  // the first sample that waits
  int64_t next_sample_ = 0;
  std::shared_ptr<CachedPrompt> waiting_;  // its prompt, once another sample of it was admitted
  std::vector<std::unique_ptr<Row>> rows_;
  std::vector<std::vector<Completion>> completions_;
};

/// Appends rows while they fit. Returns the prompts among them that are not in the cache yet.
std::vector<CachedPrompt*> Run::admit() {
  std::vector<CachedPrompt*> fresh;
  while (next_prompt_ < prompts_.size() && static_cast<int64_t>(rows_.size()) < engine_.max_rows) {
    const Prompt& source = prompts_[next_prompt_];
    const int64_t needed = waiting_ ? answer_blocks(options_) : blocks_of_sample(source, options_);
    if (reserved_ + needed > cache_.blocks()) {
      break;
    }
    if (!waiting_) {
      waiting_ = std::make_shared<CachedPrompt>(static_cast<int64_t>(next_prompt_), cache_,
                                                reserved_, static_cast<int64_t>(source.ids.size()));
      fresh.push_back(waiting_.get());
    }
    rows_.push_back(
        std::make_unique<Row>(waiting_, next_sample_, cache_, reserved_, source, options_));
    if (++next_sample_ == options_.num_generations) {
      waiting_ = nullptr;
      next_sample_ = 0;
      ++next_prompt_;
    }
  }
  stats_.peak_rows = std::max(stats_.peak_rows, static_cast<int64_t>(rows_.size()));
  return fresh;
}

void Run::prefill(const std::vector<CachedPrompt*>& prompts) {
  if (prompts.empty()) {
    return;
  }
  std::vector<int64_t> lengths;
  for (const CachedPrompt* prompt : prompts) {
    lengths.push_back(
        static_cast<int64_t>(prompts_[static_cast<size_t>(prompt->index)].ids.size()));
  }
  const std::vector<int64_t> cuts = cut_by_tokens(lengths, engine_.prefill_tokens);
  for (size_t cut = 0; cut + 1 < cuts.size(); ++cut) {
    const std::span<CachedPrompt* const> part(prompts.begin() + cuts[cut],
                                              prompts.begin() + cuts[cut + 1]);
    const std::vector<uint8_t> unsupervised(
        static_cast<size_t>(
            *std::max_element(lengths.begin() + cuts[cut], lengths.begin() + cuts[cut + 1])),
        0);
    std::vector<PackRow> packed;
    std::vector<CacheSlot> slots;
    std::vector<int64_t> last;
    for (CachedPrompt* prompt : part) {
      const std::vector<int32_t>& ids = prompts_[static_cast<size_t>(prompt->index)].ids;
      packed.push_back({.ids = ids,
                        .supervised = std::span(unsupervised).first(ids.size()),
                        .row = prompt->index});
      prompt->blocks.grow(static_cast<int64_t>(ids.size()));
      append_slots(prompt->blocks, slots);
      last.push_back(static_cast<int64_t>(slots.size()) - 1);
    }
    const PackedBatch batch = batch_rows(packed);
    PrefillAttention attention(cache_, batch.segments, std::move(slots));
    const at::Tensor hidden =
        decoder_.forward(batch.ids.to(decoder_.device()), batch.positions.to(decoder_.device()),
                         attention, at::tensor(last, at::kLong).to(decoder_.device()));
    for (size_t i = 0; i < part.size(); ++i) {
      part[i]->last_hidden = hidden[static_cast<int64_t>(i)].clone();
    }
    stats_.prefilled_tokens += batch.tokens();
  }
}

void Run::choose_first_tokens(size_t begin) {
  std::vector<at::Tensor> hidden;
  for (size_t i = begin; i < rows_.size(); ++i) {
    hidden.push_back(rows_[i]->prompt->last_hidden);
  }
  choose(begin, at::stack(hidden));
}

void Run::decode() {
  std::vector<int64_t> ids;
  std::vector<int64_t> positions;
  std::vector<CachedSequence> sequences;
  for (const auto& row : rows_) {
    row->answer.grow(1);
    sequences.push_back({row->prompt->blocks.view(), row->answer.view()});
    ids.push_back(row->completion.ids().back());
    positions.push_back(sequences.back().tokens() - 1);
  }
  DecodeAttention attention(cache_, std::move(sequences));
  const auto on_device = [&](const std::vector<int64_t>& values) {
    return at::tensor(values, at::kLong).to(decoder_.device());
  };
  choose(0, decoder_.forward(on_device(ids), on_device(positions), attention));
  ++stats_.decode_steps;
}

/// hidden (rows from `begin` on, C): one token for each of these rows.
void Run::choose(size_t begin, const at::Tensor& hidden) {
  at::Tensor logits =
      reference::logits(hidden, decoder_.head()).to(at::kCPU, at::kFloat).contiguous();
  const int64_t vocab = logits.size(1);
  std::vector<ChosenToken> tokens(rows_.size() - begin);
  at::parallel_for(0, logits.size(0), /*grain_size=*/1, [&](int64_t first, int64_t end) {
    Sampler sampler;
    for (int64_t i = first; i < end; ++i) {
      Row& row = *rows_[begin + static_cast<size_t>(i)];
      tokens[static_cast<size_t>(i)] = row.completion.choose(
          sampler, {logits.mutable_data_ptr<float>() + i * vocab, static_cast<size_t>(vocab)});
    }
  });
  stats_.peak_blocks = std::max(stats_.peak_blocks, cache_.blocks() - cache_.free_blocks());
  for (size_t i = 0; i < tokens.size(); ++i) {
    accept(*rows_[begin + i], tokens[i]);
  }
}

void Run::accept(Row& row, const ChosenToken& token) {
  ++stats_.sampled_tokens;
  if (!callbacks_.on_token) {
    row.completion.accept(token, {});
    return;
  }
  row.completion.accept(token, [&](std::span<const int32_t> ids) {
    return callbacks_.on_token({.prompt = row.prompt->index, .sample = row.sample, .ids = ids});
  });
}

void Run::drop_finished() {
  for (auto& row : rows_) {
    if (row->completion.done()) {
      Completion& kept =
          completions_[static_cast<size_t>(row->prompt->index)][static_cast<size_t>(row->sample)];
      kept = row->completion.take();
      if (callbacks_.on_finished) {
        callbacks_.on_finished(row->prompt->index, row->sample, kept);
      }
      row = nullptr;
    }
  }
  std::erase(rows_, nullptr);
}

}  // namespace

std::string_view name(FinishReason reason) {
  return reason == FinishReason::stop ? "stop" : "length";
}

Engine::Engine(const Decoder& decoder, EngineOptions options)
    : decoder_(decoder), options_(options) {
  check(options.max_rows >= 1 && options.prefill_tokens >= 1 && options.cache_bytes >= 1,
        "generate",
        "expected max_rows, prefill_tokens and cache_bytes of at least 1, got {}, {} and {}",
        options.max_rows, options.prefill_tokens, options.cache_bytes);
}

int64_t cache_bytes_of_sample(const Decoder& decoder, int64_t prompt_tokens, int64_t new_tokens) {
  return (blocks_for(prompt_tokens) + blocks_for(new_tokens - 1)) *
         KvCache::block_bytes(decoder.config(), decoder.dtype());
}

void Engine::check_request(std::span<const Prompt> prompts, const SamplingOptions& options) {
  Problems problems;
  options.check("generate", problems);
  problems.throw_if_any();
  const DecoderConfig& config = decoder_.config();
  const int64_t block_bytes = KvCache::block_bytes(config, decoder_.dtype());
  int64_t longest = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::string where =
        prompts[i].where.empty() ? fmt::format("generate: prompt {}", i) : prompts[i].where;
    const std::vector<int32_t>& ids = prompts[i].ids;
    check_prompt_ids(prompts[i], where, config, problems);
    const int64_t needed = blocks_of_sample(prompts[i], options) * block_bytes;
    const int64_t budget = options_.cache_bytes / block_bytes * block_bytes;
    if (needed > budget) {
      problems.add(where,
                   fmt::format("{} prompt tokens and {} new ones need {} bytes of cache, the "
                               "budget is {}: {} bytes short.",
                               ids.size(), options.max_new_tokens, needed, options_.cache_bytes,
                               needed - budget),
                   "raise the cache budget or lower max_new_tokens");
    }
    longest = std::max(longest, static_cast<int64_t>(ids.size()) + options.max_new_tokens);
    if (config.rope.width == 0 && longest > config.context) {
      problems.add(where,
                   fmt::format("expected at most {} tokens, the positions the model has learned, "
                               "got {} and {} new ones.",
                               config.context, ids.size(), options.max_new_tokens),
                   "lower max_new_tokens or shorten the prompt");
      longest = 0;
    }
  }
  problems.throw_if_any();
  if (longest > config.context && config.context > 0 && !warned_of_context_) {
    warned_of_context_ = true;
    log_warning(
        "[generate] rows of up to {} tokens are asked for, the model was made for {}. HINT: lower "
        "max_new_tokens.",
        longest, config.context);
  }
}

std::vector<std::vector<Completion>> Engine::generate(std::span<const Prompt> prompts,
                                                      const SamplingOptions& options,
                                                      const GenerateCallbacks& callbacks) {
  check_request(prompts, options);
  const c10::InferenceMode inference;  // tensors of a step know nothing of gradients: less to make
  const ThinProductScope thin;
  const int64_t block_bytes = KvCache::block_bytes(decoder_.config(), decoder_.dtype());
  const int64_t blocks = std::min(blocks_at_once(prompts, options, options_.max_rows),
                                  options_.cache_bytes / block_bytes);
  stats_ = {};
  stats_.cache_bytes = blocks * block_bytes;
  return Run(decoder_, options_, prompts, options, callbacks, blocks, stats_)();
}

}  // namespace rlhf
