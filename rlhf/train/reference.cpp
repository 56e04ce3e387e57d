#include "rlhf/train/reference.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <bit>
#include <mutex>

#include "rlhf/core/error.h"
#include "rlhf/core/log.h"
#include "rlhf/core/threads.h"
#include "rlhf/models/adapter.h"

namespace rlhf {
namespace {

constexpr int kTableVersion = 2;
constexpr int64_t kShardItems = 256;
constexpr size_t kLogprobs = 0;

/// A cache holds integers; the bits of a float fit into one.
std::vector<int32_t> bits_of(const at::Tensor& values) {
  const auto plain = values.to(at::kCPU, at::kFloat).contiguous();
  const auto* data = plain.const_data_ptr<float>();
  std::vector<int32_t> bits(static_cast<size_t>(plain.numel()));
  std::transform(data, data + plain.numel(), bits.begin(),
                 [](float value) { return std::bit_cast<int32_t>(value); });
  return bits;
}

/// Goes through the build of a table when a stop was asked for: finished shards stay.
struct Stopped {};

/// Makes the shards of one table, one after the other: the threads work inside a pass.
class TableMaker {
 public:
  TableMaker(const Decoder& decoder, const ReferenceItems& items, int64_t max_tokens,
             const TrainHooks& hooks)
      : decoder_(decoder), items_(items), max_tokens_(max_tokens), hooks_(hooks) {}

  void fill(int64_t shard, ShardBuilder& builder) {
    const std::lock_guard one_at_a_time(mutex_);
    if (hooks_.should_stop && hooks_.should_stop()) throw Stopped();
    const at::NoGradGuard no_grad;
    const int64_t begin = shard * kShardItems;
    const int64_t end = std::min(items_.size, begin + kShardItems);
    std::vector<int64_t> lengths;
    const int64_t limit = decoder_.config().shared_prefix_limit();
    for (int64_t item = begin; item < end; ++item) {
      int64_t tokens = 0;
      for (const auto& prompt : items_.prompts(item)) tokens += prompt.tokens(limit);
      lengths.push_back(tokens);
    }
    const auto cuts = cut_by_tokens(lengths, max_tokens_);
    for (size_t cut = 0; cut + 1 < cuts.size(); ++cut)
      pass(begin + cuts[cut], begin + cuts[cut + 1], limit, builder);
  }

 private:
  void pass(int64_t begin, int64_t end, int64_t share_limit, ShardBuilder& builder) {
    std::vector<PackPrompt> prompts;
    for (int64_t item = begin; item < end; ++item) {
      for (auto& prompt : items_.prompts(item)) {
        for (auto& answer : prompt.answers) answer.row = item;
        prompts.push_back(std::move(prompt));
      }
    }
    const auto batch = batch_prompts(prompts, share_limit);
    const auto bits = bits_of(batch_logprobs(decoder_, batch, {}).logprobs);
    size_t at = 0;
    for (int64_t item = begin; item < end; ++item) {
      const size_t first = at;
      while (at < batch.row_of.size() && batch.row_of[at] == item) ++at;
      builder.put(kLogprobs, std::span(bits).subspan(first, at - first));
      builder.end_row();
    }
    done_ += end - begin;
    if (hooks_.on_reference) hooks_.on_reference(done_, items_.size);
  }

  const Decoder& decoder_;
  const ReferenceItems& items_;
  int64_t max_tokens_;
  const TrainHooks& hooks_;
  std::mutex mutex_;
  int64_t done_ = 0;
};

}  // namespace

std::string model_fingerprint(const Model& model) {
  const Decoder& decoder = model.decoder;
  auto tensors = decoder.tensors();
  std::string rest = model.config.dump();
  if (decoder.active_adapter() >= 0) {
    const Adapter& adapter = decoder.adapter(decoder.active_adapter());
    for (auto& named : adapter.tensors()) tensors.push_back(std::move(named));
    for (const auto& [name, module] : adapter.modules)
      rest += fmt::format(" {} {};", name, module->scale);
  }
  std::vector<std::string> hashes(tensors.size());
  parallel_pieces(std::ssize(tensors), /*grain=*/1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      const auto plain = tensors[i].tensor.detach().to(at::kCPU).contiguous();
      const std::string_view bytes(static_cast<const char*>(plain.const_data_ptr()),
                                   plain.nbytes());
      hashes[i] = fmt::format("{} {} {};", tensors[i].name, toString(plain.scalar_type()),
                              content_hash(bytes));
    }
  });
  return content_hash(fmt::format("{} {}", fmt::join(hashes, ""), rest));
}

std::optional<ReferenceTable> ReferenceTable::make(const Model& model, const ReferenceItems& items,
                                                   const fs::path& cache_folder, int64_t max_tokens,
                                                   const TrainHooks& hooks) {
  const CacheRecipe recipe{.folder = cache_folder,
                           .key = {{"kind", "reference log-probabilities"},
                                   {"version", kTableVersion},
                                   {"model", model_fingerprint(model)},
                                   {"items", items.fingerprint},
                                   {"size", items.size}},
                           .columns = {{"logprobs", ColumnType::int32}}};
  if (auto found = find_cache(recipe)) {
    log_info("[reference] log-probabilities of {} rows are taken from the cache.", items.size);
    return ReferenceTable(std::move(found));
  }
  TableMaker maker(model.decoder, items, max_tokens, hooks);
  const int64_t shards = (items.size + kShardItems - 1) / kShardItems;
  try {
    return ReferenceTable(build_cache(recipe, shards, [&](int64_t shard, ShardBuilder& builder) {
      maker.fill(shard, builder);
      return true;
    }));
  } catch (const Stopped&) {
    return std::nullopt;
  }
}

std::span<const float> ReferenceTable::of(int64_t item) const {
  const auto bits = cache_->int32s(kLogprobs, item);
  // The same bytes: what bits_of() wrote.
  return {reinterpret_cast<const float*>(bits.data()), bits.size()};
}

Reference Reference::from_table(ReferenceTable table, std::function<int64_t(int64_t)> item_of) {
  Reference reference;
  reference.answer_ = [table = std::move(table), item_of = std::move(item_of)](
                          const PackedBatch& packed, std::span<const int64_t> rows) {
    auto logprobs = at::empty({packed.scored()}, at::kFloat);
    std::span<float> out(logprobs.data_ptr<float>(), static_cast<size_t>(packed.scored()));
    for (const int64_t row : rows) {
      const auto values = table.of(item_of(row));
      check(values.size() <= out.size(), "reference", "row {} has {} log-probabilities too many.",
            row, values.size() - out.size());
      std::copy(values.begin(), values.end(), out.begin());
      out = out.subspan(values.size());
    }
    check(out.empty(), "reference", "{} log-probabilities of the batch are missing.", out.size());
    return logprobs;
  };
  return reference;
}

Reference Reference::from_adapter(Decoder& policy, int adapter, double temperature) {
  Reference reference;
  reference.answer_ = [&policy, adapter, temperature](const PackedBatch& packed,
                                                      std::span<const int64_t>) {
    const at::NoGradGuard no_grad;
    const AdapterScope scope(policy, adapter);
    return batch_logprobs(policy, packed, {.temperature = temperature}).logprobs;
  };
  return reference;
}

Reference Reference::from_model(std::shared_ptr<const Model> model, double temperature) {
  Reference reference;
  reference.answer_ = [model = std::move(model), temperature](const PackedBatch& packed,
                                                              std::span<const int64_t>) {
    const at::NoGradGuard no_grad;
    return batch_logprobs(model->decoder, packed, {.temperature = temperature}).logprobs;
  };
  return reference;
}

Reference Reference::from_maps(std::shared_ptr<const Model> model, at::ScalarType dtype,
                               double temperature) {
  const auto read = std::make_shared<std::optional<Decoder>>();
  Reference reference;
  reference.answer_ = [=, model = std::move(model)](const PackedBatch& packed,
                                                    std::span<const int64_t>) {
    const at::NoGradGuard no_grad;
    if (!*read) read->emplace(read_from_maps(*model, dtype));
    return batch_logprobs(**read, packed, {.temperature = temperature}).logprobs;
  };
  reference.let_go_ = [read] { read->reset(); };
  return reference;
}

std::vector<at::Tensor> Reference::logprobs(std::span<const AnswerBatch> batches) const {
  std::vector<at::Tensor> found;
  for (const auto& batch : batches) found.push_back(logprobs(batch.packed, batch.rows));
  return found;
}

void Reference::let_go() const {
  if (let_go_) let_go_();
}

at::Tensor Reference::logprobs(const PackedBatch& packed, std::span<const int64_t> rows) const {
  return answer_(packed, rows);
}

void mix_into_reference(const Model& reference, const Decoder& policy, double alpha) {
  const at::NoGradGuard no_grad;
  const auto& from = policy.tensors();
  const auto& to = reference.decoder.tensors();
  check(from.size() == to.size(), "reference", "{} tensors were expected, got {}.", from.size(),
        to.size());
  for (size_t i = 0; i < to.size(); ++i)
    at::Tensor(to[i].tensor).mul_(1.0 - alpha).add_(from[i].tensor, alpha);
}

}  // namespace rlhf
