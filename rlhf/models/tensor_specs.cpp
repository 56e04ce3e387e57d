#include "rlhf/models/tensor_specs.h"

#include <ATen/ATen.h>

#include <cmath>
#include <set>
#include <span>

#include "rlhf/core/random.h"

namespace rlhf {
namespace {

/// Writes down the tensors of one model, part by part.
class SpecWriter {
 public:
  SpecWriter(const DecoderConfig& config, const NameStyle& style)
      : config_(config),
        names_(config.row->names),
        base_(style.with_base ? names_.base : ""),
        style_(style) {}

  std::vector<TensorSpec> write() {
    prefix_ = base_;
    matrix(names_.embedding, {config_.vocab_size, config_.width}, config_.initializer_range,
           config_.pad_id);
    if (present(names_.positions)) {
      matrix(names_.positions, {config_.context, config_.width}, config_.initializer_range);
    }
    for (int64_t i = 0; i < config_.layers; ++i) {
      prefix_ = fmt::format("{}{}{}.", base_, names_.layer, i);
      layer();
    }
    prefix_ = base_;
    norm(names_.final_norm, config_.width);
    prefix_.clear();
    if (config_.is_classifier()) {
      const char* module = score_module(config_);
      matrix(module, {config_.labels, config_.width}, config_.initializer_range);
      if (config_.score_bias) add(module, ".bias", {config_.labels}, InitKind::zeros);
    } else if (!config_.tied) {
      matrix(style_.with_head_alias ? names_.head_alias : names_.head,
             {config_.vocab_size, config_.width}, config_.initializer_range);
    }
    return std::move(specs_);
  }

 private:
  static bool present(const char* name) { return *name != '\0'; }

  void add(const char* module, const char* kind, std::vector<int64_t> shape, InitKind init,
           double deviation = 0.0, int64_t zero_row = -1) {
    specs_.push_back({prefix_ + module + kind, std::move(shape), init, deviation, zero_row});
  }

  void matrix(const char* module, std::vector<int64_t> shape, double deviation,
              int64_t zero_row = -1) {
    add(module, ".weight", std::move(shape), InitKind::normal, deviation, zero_row);
  }

  void linear(const char* module, int64_t out, int64_t in, bool bias, double deviation) {
    if (!present(module)) return;
    matrix(module, config_.row->transposed ? std::vector{in, out} : std::vector{out, in},
           deviation);
    if (bias) add(module, ".bias", {out}, InitKind::zeros);
  }

  void norm(const char* module, int64_t width) {
    if (!present(module)) return;
    // A weight stored as w − 1 is neutral at zero.
    add(module, ".weight", {width},
        config_.row->norm_offset == 0.0 ? InitKind::ones : InitKind::zeros);
    if (config_.row->norm == NormKind::layer) add(module, ".bias", {width}, InitKind::zeros);
  }

  void layer() {
    const double deviation = config_.initializer_range;
    const double out_deviation =
        config_.row->scaled_output_init
            ? deviation / std::sqrt(2.0 * static_cast<double>(config_.layers))
            : deviation;
    const int64_t query_width = config_.heads * config_.head_dim;
    const int64_t key_width = config_.key_heads * config_.head_dim;
    const bool by_head = config_.row->qk_norm == QkNorm::head;
    norm(names_.attention_norm, config_.width);
    linear(names_.q, query_width, config_.width, config_.qkv_bias, deviation);
    linear(names_.k, key_width, config_.width, config_.qkv_bias, deviation);
    linear(names_.v, key_width, config_.width, config_.qkv_bias, deviation);
    linear(names_.qkv, query_width + 2 * key_width, config_.width, config_.qkv_bias, deviation);
    norm(names_.q_norm, by_head ? config_.head_dim : query_width);
    norm(names_.k_norm, by_head ? config_.head_dim : key_width);
    linear(names_.attention_out, config_.width, query_width, config_.attention_out_bias,
           out_deviation);
    norm(names_.attention_post_norm, config_.width);
    norm(names_.mlp_norm, config_.width);
    linear(names_.gate, config_.inner, config_.width, config_.mlp_bias, deviation);
    linear(names_.gate_up, 2 * config_.inner, config_.width, config_.mlp_bias, deviation);
    linear(names_.up, config_.inner, config_.width, config_.mlp_bias, deviation);
    linear(names_.down, config_.width, config_.inner, config_.mlp_bias, out_deviation);
    norm(names_.mlp_post_norm, config_.width);
  }

  const DecoderConfig& config_;
  const TensorNames& names_;
  std::string base_;
  NameStyle style_;
  std::string prefix_;
  std::vector<TensorSpec> specs_;
};

bool is_old_buffer(const DecoderConfig& config, std::string_view name) {
  const auto& endings = config.row->buffers;
  return std::any_of(endings.begin(), endings.end(),
                     [&](const char* ending) { return name.ends_with(ending); });
}

/// A stored head of a tied model: nothing to load if it says what the embedding says.
bool is_tied_head(const DecoderConfig& config, std::string_view name) {
  const auto& names = config.row->names;
  return config.tied && !config.is_classifier() &&
         (name == fmt::format("{}.weight", names.head) ||
          (*names.head_alias != '\0' && name == fmt::format("{}.weight", names.head_alias)));
}

void check_tied_head(const std::string& name, const at::Tensor& head, const at::Tensor& embedding,
                     Problems& problems) {
  if (head.sizes() == embedding.sizes() && head.scalar_type() == embedding.scalar_type() &&
      at::equal(head, embedding)) {
    return;
  }
  problems.add(
      name, "the embedding's values were expected, as tie_word_embeddings is true; they differ.",
      "set tie_word_embeddings to false in config.json if the head is a matrix of its own.");
}

/// What to do about a tensor that a folder lacks.
std::string missing_hint(const DecoderConfig& config, const std::string& name) {
  if (!config.is_classifier() || !name.starts_with(score_module(config))) return "";
  return "the folder says that it is a classifier and has no head for it: train one from the "
         "language model's folder, or put the missing file back.";
}

}  // namespace

std::string shape_text(at::IntArrayRef shape) {
  std::string text = "(";
  for (const int64_t size : shape) text += fmt::format("{}{}", text.size() > 1 ? ", " : "", size);
  return text + ")";
}

uint64_t name_hash(std::string_view name) {
  uint64_t hash = 14695981039346656037ULL;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return hash;
}

std::string transformers_name(const DecoderConfig& config, const std::string& name) {
  const auto& names = config.row->names;
  const auto module = name.substr(0, name.rfind('.'));
  if (module == names.head || module == head_module(config)) {
    return head_module(config) + name.substr(module.size());
  }
  const bool alone = config.is_classifier() && module == score_module(config);
  return alone || name.starts_with(names.base) ? name : names.base + name;
}

const char* head_module(const DecoderConfig& config) {
  const auto& names = config.row->names;
  return *names.head_alias == '\0' ? names.head : names.head_alias;
}

const char* score_module(const DecoderConfig& config) {
  return config.task == ModelTask::token_classification ? config.row->names.token_head : "score";
}

at::Tensor initial_tensor(const TensorSpec& spec, uint64_t seed) {
  auto tensor = at::empty(spec.shape, at::kFloat);
  if (spec.init != InitKind::normal) return tensor.fill_(spec.init == InitKind::ones ? 1.0 : 0.0);
  Random random(seed, {kRandomInit, name_hash(spec.name)});
  const std::span<float> values(tensor.data_ptr<float>(), static_cast<size_t>(tensor.numel()));
  for (float& value : values) value = static_cast<float>(spec.deviation * random.normal());
  if (spec.zero_row >= 0) tensor[spec.zero_row].zero_();
  return tensor;
}

NameStyle name_style(const DecoderConfig& config,
                     const std::map<std::string, at::Tensor>& tensors) {
  const auto& names = config.row->names;
  const auto embedding = fmt::format("{}.weight", names.embedding);
  NameStyle style;
  style.with_base = tensors.contains(names.base + embedding) || !tensors.contains(embedding);
  style.with_head_alias = *names.head_alias != '\0' &&
                          !tensors.contains(fmt::format("{}.weight", names.head)) &&
                          tensors.contains(fmt::format("{}.weight", names.head_alias));
  return style;
}

std::vector<TensorSpec> tensor_specs(const DecoderConfig& config, const NameStyle& style) {
  return SpecWriter(config, style).write();
}

std::vector<NamedTensor> match_tensors(const DecoderConfig& config,
                                       const std::vector<TensorSpec>& specs,
                                       const std::map<std::string, at::Tensor>& tensors) {
  Problems problems;
  std::vector<NamedTensor> matched;
  std::set<std::string_view> known;
  std::vector<std::string> missing;
  for (const auto& spec : specs) {
    known.insert(spec.name);
    const auto found = tensors.find(spec.name);
    if (found == tensors.end()) {
      missing.push_back(spec.name);
      problems.add(
          spec.name,
          fmt::format("a tensor of shape {} was expected, it is missing.", shape_text(spec.shape)),
          missing_hint(config, spec.name));
    } else if (found->second.sizes() != at::IntArrayRef(spec.shape)) {
      problems.add(spec.name,
                   fmt::format("shape {} was expected from config.json, got {}.",
                               shape_text(spec.shape), shape_text(found->second.sizes())));
    } else if (!found->second.is_floating_point()) {
      problems.add(spec.name, fmt::format("floating-point values were expected, got {}.",
                                          c10::toString(found->second.scalar_type())));
    } else {
      matched.push_back({spec.name, found->second});
    }
  }
  for (const auto& [name, tensor] : tensors) {
    if (known.contains(name) || is_old_buffer(config, name)) continue;
    if (is_tied_head(config, name)) {
      if (!matched.empty() && matched.front().name == specs.front().name) {
        check_tied_head(name, tensor, matched.front().tensor, problems);
      }
      continue;
    }
    const auto near = nearest_name(name, missing);
    problems.add(name,
                 fmt::format("no such tensor was expected in a {} model.", config.row->model_type),
                 near.empty() ? "" : fmt::format("is it {}?", near));
  }
  problems.throw_if_any();
  return matched;
}

}  // namespace rlhf
