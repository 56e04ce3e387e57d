// The adapters of tools/make_lora_goldens.py: what PEFT says about them, weights by formula.
#pragma once

#include <ATen/ATen.h>

#include <set>

#include "rlhf/models/adapter.h"
#include "rlhf/models/safetensors.h"
#include "tests/models/cases.h"
#include "tests/models/temporary_folder.h"

namespace rlhf::testing {

inline const Json& adapter_cases() {
  static const Json all =
      read_gzip_json(std::string(RLHF_FIXTURES) + "/lora/cases.json.gz").at("cases");
  return all;
}

inline const Json& find_adapter_case(const std::string& name) {
  for (const auto& one : adapter_cases()) {
    if (one["name"] == name) return one;
  }
  throw std::runtime_error("no case " + name);
}

/// Writes a model folder of tools/make_models.py.
inline void write_base(const std::string& name, const fs::path& folder) {
  const auto& one = find_case(name);
  fs::create_directories(folder);
  write_file(folder / "config.json", one["config"].dump());
  std::vector<TensorToStore> tensors;
  for (const auto& [key, tensor] : make_weights(one)) tensors.push_back({key, tensor, at::kFloat});
  write_safetensors(folder / "model.safetensors", std::move(tensors));
}

inline std::map<std::string, at::Tensor> adapter_weights(const Json& one) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [key, spec] : one["tensors"].items()) {
    tensors[key] = make_weight(spec.value("same_as", key), spec);
  }
  return tensors;
}

inline void write_adapter(const Json& config, const std::map<std::string, at::Tensor>& weights,
                          const fs::path& folder) {
  fs::create_directories(folder);
  write_file(folder / "adapter_config.json", config.dump(2));
  std::vector<TensorToStore> tensors;
  for (const auto& [key, tensor] : weights) tensors.push_back({key, tensor, tensor.scalar_type()});
  write_safetensors(folder / "adapter_model.safetensors", std::move(tensors));
}

/// `base` and `adapter` side by side in one folder; the adapter names its base from where it lies.
class AdapterFolders {
 public:
  explicit AdapterFolders(const std::string& name) : one_(find_adapter_case(name)) {
    write_base(one_["base"], base());
    config_ = one_["adapter_config"];
    config_["base_model_name_or_path"] = "../base";
    weights_ = adapter_weights(one_);
    write();
  }

  /// Writes the adapter again, after a change.
  void write() const { write_adapter(config_, weights_, adapter()); }

  const Json& one() const { return one_; }
  Json& config() { return config_; }
  std::map<std::string, at::Tensor>& weights() { return weights_; }
  fs::path path() const { return folder_.path(); }
  fs::path base() const { return folder_.path() / "base"; }
  fs::path adapter() const { return folder_.path() / "adapter"; }

 private:
  const Json& one_;
  TemporaryFolder folder_;
  Json config_;
  std::map<std::string, at::Tensor> weights_;
};

/// What the goldens hold of each row: log-probabilities, a row's score, or all its tokens' scores.
inline std::vector<at::Tensor> outputs(const Decoder& decoder, const Rows& rows,
                                       const ForwardOptions& options = {}) {
  if (!decoder.config().is_classifier()) return score(decoder, rows, options);
  PackedAttention attention(rows.segments);
  const auto scores =
      decoder.score(decoder.forward(rows.ids, rows.positions, attention, {}, options));
  const bool last = decoder.config().task == ModelTask::sequence_classification;
  std::vector<at::Tensor> out;
  for (const auto& segment : rows.segments) {
    const int64_t end = segment.begin + segment.length;
    out.push_back(scores.slice(0, last ? end - 1 : segment.begin, end).flatten());
  }
  return out;
}

/// The loss whose gradients the goldens hold.
inline at::Tensor loss_of(const Decoder& decoder, const std::vector<at::Tensor>& rows) {
  at::Tensor loss;
  for (const auto& row : rows) {
    const auto own = decoder.config().is_classifier() ? row.square().sum() : -row.mean();
    loss = loss.defined() ? loss + own : own;
  }
  return loss;
}

}  // namespace rlhf::testing
