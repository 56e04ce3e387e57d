// The reference policy: log-probabilities of given answers under a model that does not move (or
// follows slowly).
//
// Three ways to them, cheapest first:
//   table    computed once, token by token, before the first step, and kept on disk; the model that
//            made them is not needed any more
//   adapter  the policy's own weights with its adapter off, or with the adapter it started from
//   model    a second model: another folder, or the policy's start. On the CPU it is read from its
//            files when it is asked and leaves memory behind the last batch; one that follows the
//            policy stays (TR-DPO, Gorbatovski et al., arXiv 2404.09656)
//
// A table is keyed by everything it depends on: the model (the bits of its weights, its
// configuration, its adapter's scale), the ids of every prompt and answer, and how they are paired.
// So a table of another model, other data, template or lengths is never found. It is written in
// shards; after a kill the next start keeps the finished ones.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/data/cache.h"
#include "rlhf/models/folder.h"
#include "rlhf/nn/packed_batch.h"
#include "rlhf/train/answer_batch.h"
#include "rlhf/train/setup.h"

namespace rlhf {

/// Bytes of weights from which on a model of its own is read when it is asked: a smaller one stays.
inline constexpr int64_t kLeastRead = int64_t{64} << 20;

/// What a table is made of: `size` items, each one or more prompts with their answers.
struct ReferenceItems {
  int64_t size = 0;
  std::function<std::vector<PackPrompt>(int64_t item)> prompts;
  std::string fingerprint;  ///< of all ids and pairings
};

/// Log-probabilities of every answer of every item, mapped from disk.
class ReferenceTable {
 public:
  /// Finds the table or makes it with `model` as it stands, in passes of at most `max_tokens`
  /// tokens; progress goes to `hooks`. Nothing when hooks.should_stop asked to stop: finished
  /// shards stay. UserError when the disk is full.
  static std::optional<ReferenceTable> make(const Model& model, const ReferenceItems& items,
                                            const fs::path& cache_folder, int64_t max_tokens,
                                            const TrainHooks& hooks);

  /// Of all scored tokens of an item, in the order of its packed batch.
  std::span<const float> of(int64_t item) const;

 private:
  explicit ReferenceTable(std::shared_ptr<const RaggedCache> cache) : cache_(std::move(cache)) {}
  std::shared_ptr<const RaggedCache> cache_;
};

/// A hash of everything that `model` computes with: the bits of every tensor and config.json, its
/// active adapter included.
std::string model_fingerprint(const Model& model);

/// Answers for a batch, from wherever the reference is.
class Reference {
 public:
  /// `item_of` maps a row of the data set to an item of the table.
  static Reference from_table(ReferenceTable table, std::function<int64_t(int64_t)> item_of);
  /// The policy's decoder with adapter `adapter` (-1: none) in place of the active one.
  static Reference from_adapter(Decoder& policy, int adapter, double temperature = 1.0);
  static Reference from_model(std::shared_ptr<const Model> model, double temperature = 1.0);
  /// The same of a model that lies mapped in its files: read into memory in `dtype` when it is asked.
  static Reference from_maps(std::shared_ptr<const Model> model, at::ScalarType dtype,
                             double temperature = 1.0);

  /// (R) for the scored positions of `packed`, on its model's device; no gradient. `rows` are the
  /// data set's, in the order of the batch.
  at::Tensor logprobs(const PackedBatch& packed, std::span<const int64_t> rows) const;
  /// The same of each of `batches`.
  std::vector<at::Tensor> logprobs(std::span<const AnswerBatch> batches) const;
  /// Until it is asked again: one of from_maps() leaves memory. A step asks for all that it needs,
  /// lets go, and makes its graphs then; an evaluation, which has none, lets go at its end.
  void let_go() const;

 private:
  std::function<at::Tensor(const PackedBatch&, std::span<const int64_t>)> answer_;
  std::function<void()> let_go_;  // may be empty
};

/// reference ← (1 − α)·reference + α·policy, tensor by tensor.
void mix_into_reference(const Model& reference, const Decoder& policy, double alpha);

}  // namespace rlhf
