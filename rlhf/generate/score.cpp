#include "rlhf/generate/score.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "rlhf/core/error.h"
#include "rlhf/math/linear_logprobs.h"
#include "rlhf/models/packed_forward.h"

namespace rlhf {
namespace {

void check_ids(const Decoder& decoder, std::span<const int32_t> ids) {
  const int64_t vocab = decoder.config().vocab_size;
  for (const int32_t id : ids) {
    check(id >= 0 && id < vocab, "score", "expected ids below the vocabulary's {}, got {}", vocab,
          id);
  }
}

void check_ids(const Decoder& decoder, std::span<const PackPrompt> prompts) {
  for (const auto& prompt : prompts) {
    check_ids(decoder, prompt.ids);
    for (const auto& answer : prompt.answers) check_ids(decoder, answer.ids);
  }
}

at::Tensor on_cpu(const at::Tensor& values) { return values.to(at::kCPU, at::kFloat).contiguous(); }

/// Log-probabilities of a batch's targets, (R) on the CPU.
at::Tensor target_logprobs(const Decoder& decoder, const PackedBatch& batch, double temperature) {
  LogprobOptions head;
  head.temperature = temperature;
  return on_cpu(linear_logprobs(packed_forward(decoder, batch, batch.rows), decoder.head(),
                                batch.targets.to(decoder.device()), head)
                    .logprobs);
}

/// Calls `pass(first, end)` for runs of items of the given lengths.
void for_each_pass(std::span<const int64_t> lengths, int64_t max_tokens,
                   const std::function<void(size_t first, size_t end)>& pass) {
  const std::vector<int64_t> cuts = cut_by_tokens(lengths, max_tokens);
  for (size_t cut = 0; cut + 1 < cuts.size(); ++cut) {
    pass(static_cast<size_t>(cuts[cut]), static_cast<size_t>(cuts[cut + 1]));
  }
}

/// Calls `pass(batch)` for the prompts' batches, in order.
void for_each_batch(const Decoder& decoder, std::span<const PackPrompt> prompts, int64_t max_tokens,
                    const std::function<void(const PackedBatch&)>& pass) {
  check_ids(decoder, prompts);
  const int64_t share_limit = decoder.config().shared_prefix_limit();
  std::vector<int64_t> lengths;
  for (const auto& prompt : prompts) lengths.push_back(prompt.tokens(share_limit));
  for_each_pass(lengths, max_tokens, [&](size_t first, size_t end) {
    pass(batch_prompts(prompts.subspan(first, end - first), share_limit));
  });
}

void require_labels(const Decoder& decoder, ModelTask task, int64_t most, const char* expected) {
  const auto& config = decoder.config();
  if (config.task == task && config.labels <= most) return;
  throw UserError(
      "model",
      fmt::format(
          "{} was expected, got {}{}.", expected, config.row->class_for(config.task),
          config.is_classifier() ? fmt::format(" with {} labels", config.labels) : std::string()));
}

}  // namespace

std::vector<std::vector<float>> score_rows(const Decoder& decoder, std::span<const PackRow> rows,
                                           const ScoreOptions& options) {
  check(options.temperature > 0.0, "score", "expected a temperature above 0, got {}",
        options.temperature);
  const at::NoGradGuard no_grad;
  std::vector<int64_t> lengths;
  for (const PackRow& row : rows) {
    check(!row.ids.empty() && row.ids.size() == row.supervised.size(), "score",
          "expected as many marks as tokens, got {} and {}", row.supervised.size(), row.ids.size());
    check_ids(decoder, row.ids);
    lengths.push_back(std::ssize(row.ids));
  }
  std::vector<std::vector<float>> scores(rows.size());
  for_each_pass(lengths, options.max_tokens, [&](size_t first, size_t end) {
    const PackedBatch batch = batch_rows(rows.subspan(first, end - first));
    if (batch.scored() == 0) return;
    const auto logprobs = target_logprobs(decoder, batch, options.temperature);
    const float* values = logprobs.const_data_ptr<float>();
    for (size_t row = 0; row + 1 < batch.row_begin.size(); ++row) {
      scores[first + row].assign(values + batch.row_begin[row], values + batch.row_begin[row + 1]);
    }
  });
  return scores;
}

std::vector<double> answer_logprobs(const Decoder& decoder, std::span<const PackPrompt> prompts,
                                    const ScoreOptions& options) {
  check(options.temperature > 0.0, "score", "expected a temperature above 0, got {}",
        options.temperature);
  const at::NoGradGuard no_grad;
  std::vector<double> sums;
  for_each_batch(decoder, prompts, options.max_tokens, [&](const PackedBatch& batch) {
    if (batch.scored() == 0) {
      sums.resize(sums.size() + batch.row_end.size(), 0.0);
      return;
    }
    const auto logprobs = target_logprobs(decoder, batch, options.temperature);
    const float* values = logprobs.const_data_ptr<float>();
    for (size_t row = 0; row + 1 < batch.row_begin.size(); ++row) {
      sums.push_back(
          std::accumulate(values + batch.row_begin[row], values + batch.row_begin[row + 1], 0.0));
    }
  });
  return sums;
}

std::vector<float> rewards(const Decoder& decoder, std::span<const PackPrompt> prompts,
                           const ScoreOptions& options) {
  require_labels(decoder, ModelTask::sequence_classification, /*most=*/1,
                 "a reward model (sequence classification with one label)");
  const at::NoGradGuard no_grad;
  std::vector<float> found;
  for_each_batch(decoder, prompts, options.max_tokens, [&](const PackedBatch& batch) {
    const auto scores =
        on_cpu(decoder.score(packed_forward(decoder, batch, index_tensor(batch.row_end))));
    const float* values = scores.const_data_ptr<float>();
    found.insert(found.end(), values, values + scores.numel());
  });
  return found;
}

std::vector<std::vector<float>> step_rewards(const Decoder& decoder, std::span<const StepsRow> rows,
                                             const ScoreOptions& options) {
  require_labels(decoder, ModelTask::token_classification, /*most=*/2,
                 "a process reward model (token classification with one or two labels)");
  const at::NoGradGuard no_grad;
  std::vector<int64_t> lengths;
  for (const StepsRow& row : rows) {
    check_ids(decoder, row.ids);
    lengths.push_back(std::ssize(row.ids));
  }
  std::vector<std::vector<float>> found(rows.size());
  for_each_pass(lengths, options.max_tokens, [&](size_t first, size_t end) {
    std::vector<PackPrompt> whole;
    std::vector<int64_t> at;
    int64_t begin = 0;
    for (size_t row = first; row < end; ++row) {
      whole.push_back({.ids = {}, .answers = {{.ids = rows[row].ids}}});
      for (const int64_t position : rows[row].ends) {
        check(position >= 0 && position < lengths[row], "score",
              "expected a position in the row of {} tokens, got {}", lengths[row], position);
        at.push_back(begin + position);
      }
      begin += lengths[row];
    }
    if (at.empty()) return;
    const auto scores =
        decoder.score(packed_forward(decoder, batch_prompts(whole), index_tensor(at)));
    const auto steps =
        on_cpu(scores.size(1) == 2 ? at::softmax(scores, /*dim=*/1).select(1, 1) : scores);
    const float* next = steps.const_data_ptr<float>();
    for (size_t row = first; row < end; ++row) {
      const auto count = std::ssize(rows[row].ends);
      found[row].assign(next, next + count);
      next += count;
    }
  });
  return found;
}

}  // namespace rlhf
