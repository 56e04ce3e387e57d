// Reads config.json into a DecoderConfig: what all families share. What only one has stands beside
// its row in arch.cpp.
#include <cmath>

#include "rlhf/core/log.h"
#include "rlhf/models/arch.h"
#include "rlhf/models/classifier.h"
#include "rlhf/models/config_reader.h"

namespace rlhf {
namespace {

// Far above any model that exists, and low enough that no product of two overflows.
constexpr int64_t kMostTokens = int64_t{1} << 26;
constexpr int64_t kMostWidth = int64_t{1} << 20;
constexpr int64_t kMostLayers = 4096;
constexpr int64_t kLongestContext = int64_t{1} << 40;

std::string supported_families() {
  std::string list;
  for (const auto& row : architectures())
    list += fmt::format("{}{}", list.empty() ? "" : ", ", row.model_type);
  return list;
}

const ArchitectureRow* find_row(const ConfigReader& reader) {
  const auto type = reader.text("model_type", "");
  for (const auto& row : architectures()) {
    if (type == row.model_type) return &row;
  }
  reader.problem("model_type",
                 fmt::format("a supported architecture was expected, got '{}'.", type),
                 fmt::format("supported are {}.", supported_families()));
  return nullptr;
}

/// Classes of a task end alike in every family.
ModelTask task_of_class(const std::string& name) {
  if (name.ends_with("ForSequenceClassification")) return ModelTask::sequence_classification;
  if (name.ends_with("ForTokenClassification")) return ModelTask::token_classification;
  return ModelTask::language_model;
}

/// As transformers: the number of entries of id2label, else num_labels, else 2.
int64_t read_labels(const ConfigReader& reader) {
  constexpr int64_t kMostLabels = 1 << 16;
  constexpr int64_t kDefaultLabels = 2;
  const int64_t named = reader.entries("id2label");
  const int64_t labels =
      reader.integer("num_labels", named > 0 ? named : kDefaultLabels, 1, kMostLabels);
  if (named > 0 && labels != named) {
    reader.problem(
        "num_labels",
        fmt::format("{} was expected, as id2label has so many entries, got {}.", named, labels));
  }
  return labels;
}

void read_task(const ConfigReader& reader, DecoderConfig& config) {
  const auto name = reader.first_text("architectures");
  config.task = task_of_class(name);
  if (!config.is_classifier()) return;
  const std::string expected = config.row->class_for(config.task);
  if (expected.empty()) {
    reader.problem("architectures",
                   fmt::format("a class that {} models have was expected, got '{}'.",
                               config.row->model_type, name),
                   classifier_hint(config.task));
  } else if (name != expected) {
    reader.problem("architectures", fmt::format("{} was expected for model_type {}, got '{}'.",
                                                expected, config.row->model_type, name));
  }
  config.labels = read_labels(reader);
  config.score_bias = config.task == ModelTask::token_classification &&
                      reader.boolean("token_classification_bias", true);
}

/// False where one of them is wrong: what follows from it would be no problem of its own.
bool read_sizes(const ConfigReader& reader, DecoderConfig& config) {
  const auto& row = *config.row;
  const size_t before = reader.problems();
  config.vocab_size = reader.integer("vocab_size", std::nullopt, 1, kMostTokens);
  config.width = reader.integer(row.keys.width, std::nullopt, 1, kMostWidth);
  config.layers = reader.integer(row.keys.layers, std::nullopt, 1, kMostLayers);
  config.heads = reader.integer(row.keys.heads, std::nullopt, 1, kMostWidth);
  const auto inner = row.defaults.inner_per_width > 0
                         ? std::optional(row.defaults.inner_per_width * config.width)
                         : std::nullopt;
  config.inner = reader.integer(row.keys.inner, inner, 1, kMostWidth);
  config.context = reader.integer(row.keys.context, row.defaults.context, 1, kLongestContext);

  config.key_heads = config.heads;
  if (*row.keys.key_heads != '\0') {
    const int64_t missing = row.defaults.key_heads > 0 ? row.defaults.key_heads : config.heads;
    config.key_heads = reader.integer(row.keys.key_heads, missing, 1, kMostWidth);
  }
  if (reader.problems() == before && config.heads % config.key_heads != 0) {
    reader.problem(row.keys.key_heads, fmt::format("a divisor of {} = {} was expected, got {}.",
                                                   row.keys.heads, config.heads, config.key_heads));
  }

  const bool own_head_dim =
      *row.keys.head_dim != '\0' && (reader.has(row.keys.head_dim) || row.defaults.head_dim > 0);
  if (own_head_dim) {
    config.head_dim = reader.integer(row.keys.head_dim, row.defaults.head_dim, 1, kMostWidth);
  } else {
    config.head_dim = std::max<int64_t>(config.width / config.heads, 1);
    if (reader.problems() == before && config.width % config.heads != 0) {
      reader.problem(row.keys.heads, fmt::format("a divisor of {} = {} was expected, got {}.",
                                                 row.keys.width, config.width, config.heads));
    }
  }
  return reader.problems() == before;
}

void read_padding(const ConfigReader& reader, DecoderConfig& config) {
  if (!config.row->padding_row) return;
  const int64_t missing =
      config.row->defaults.pad_id < config.vocab_size ? config.row->defaults.pad_id : -1;
  const bool given = reader.has("pad_token_id");
  config.pad_id =
      reader.integer("pad_token_id", missing, -config.vocab_size, config.vocab_size - 1);
  if (given && config.pad_id < 0)
    config.pad_id += config.vocab_size;  // as torch.nn.Embedding counts
}

GluActivation read_activation(const ConfigReader& reader, const ArchitectureRow& row) {
  const auto name = reader.text(row.keys.activation, row.defaults.activation);
  if (name == "silu" || name == "swish") return GluActivation::silu;
  if (name == "gelu") return GluActivation::gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast")
    return GluActivation::gelu_tanh;
  reader.problem(row.keys.activation,
                 fmt::format("a supported activation was expected, got '{}'.", name),
                 "supported are silu, gelu, gelu_new, gelu_pytorch_tanh, gelu_fast.");
  return GluActivation::silu;
}

void warn_about_dropout(const ConfigReader& reader, const ArchitectureRow& row) {
  for (const char* key : row.dropout_keys) {
    const double rate = reader.number(key, 0.0, 0.0, 1.0);
    if (rate > 0.0) {
      log_warning(
          "[{}: {}] dropout {} is not applied: training runs without dropout in the model. HINT: "
          "set it to 0 to "
          "silence this.",
          reader.where(), key, rate);
    }
  }
}

// --- rotary ---

RopeType read_rope_type(const ConfigReader& rope, const ArchitectureRow& row) {
  const char* key = rope.has("rope_type") || !rope.has("type") ? "rope_type" : "type";
  const auto name = rope.text(key, "default");
  if (name == "default") return RopeType::plain;
  if (name == "longrope" || (row.longrope_only && (name == "su" || name == "yarn")))
    return RopeType::longrope;
  if (!row.longrope_only) {
    if (name == "linear") return RopeType::linear;
    if (name == "dynamic") return RopeType::dynamic;
    if (name == "llama3") return RopeType::llama3;
    if (name == "yarn") return RopeType::yarn;
  }
  rope.problem(key, fmt::format("a supported rope type was expected, got '{}'.", name),
               row.longrope_only
                   ? "supported are default and longrope."
                   : "supported are default, linear, dynamic, llama3, yarn and longrope.");
  return RopeType::plain;
}

double yarn_magnitude(double factor, double scale) {
  return factor <= 1.0 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0;
}

double yarn_attention_factor(const ConfigReader& rope, double factor) {
  const double scale = rope.number("mscale", 0.0, 0.0, 1e6);
  const double scale_all = rope.number("mscale_all_dim", 0.0, 0.0, 1e6);
  if (scale > 0.0 && scale_all > 0.0)
    return yarn_magnitude(factor, scale) / yarn_magnitude(factor, scale_all);
  return yarn_magnitude(factor, 1.0);
}

/// What the scaled forms need beside θ and the width.
void read_rope_scaling(const ConfigReader& reader, const ConfigReader& rope,
                       const ArchitectureRow& row, RopeConfig& out) {
  constexpr double kMost = 1e6;
  constexpr double kLeast = 1e-6;
  const int64_t trained =
      rope.integer("original_max_position_embeddings",
                   row.defaults.original_context > 0 ? row.defaults.original_context : out.context,
                   1, kLongestContext);
  out.original_context =
      reader.integer("original_max_position_embeddings", trained, 1, kLongestContext);
  const double ratio = static_cast<double>(out.context) / static_cast<double>(out.original_context);
  const bool by_ratio = out.type == RopeType::yarn || out.type == RopeType::longrope;
  out.factor = rope.number("factor", by_ratio ? std::optional(ratio) : std::nullopt, kLeast, kMost);
  switch (out.type) {
    case RopeType::plain:
    case RopeType::linear:
      break;
    case RopeType::dynamic:
      if (out.width <= 2)
        rope.problem("rope_type", "more than 2 rotated channels were expected for dynamic.");
      break;
    case RopeType::llama3:
      out.low_freq_factor = rope.number("low_freq_factor", std::nullopt, kLeast, kMost);
      out.high_freq_factor = rope.number("high_freq_factor", std::nullopt, kLeast, kMost);
      if (out.high_freq_factor <= out.low_freq_factor) {
        rope.problem("high_freq_factor",
                     fmt::format("more than low_freq_factor = {} was expected, got {}.",
                                 out.low_freq_factor, out.high_freq_factor));
      }
      break;
    case RopeType::yarn:
      out.beta_fast = rope.number("beta_fast", 32.0, kLeast, kMost);
      out.beta_slow = rope.number("beta_slow", 1.0, kLeast, kMost);
      out.truncate = rope.boolean("truncate", true);
      out.attention_factor =
          rope.number("attention_factor", yarn_attention_factor(rope, out.factor), kLeast, kMost);
      break;
    case RopeType::longrope: {
      out.short_factor = rope.numbers("short_factor", static_cast<size_t>(out.width / 2));
      out.long_factor = rope.numbers("long_factor", static_cast<size_t>(out.width / 2));
      const double magnitude =
          out.factor <= 1.0 || out.original_context == 1
              ? 1.0
              : std::sqrt(1.0 + std::log(out.factor) /
                                    std::log(static_cast<double>(out.original_context)));
      out.attention_factor = rope.number("attention_factor", magnitude, kLeast, kMost);
      break;
    }
  }
}

/// One set of angles. `rope` is the object that holds its parameters; θ falls back to the top
/// level's `theta_key`.
RopeConfig read_rope(const ConfigReader& reader, const ConfigReader& rope,
                     const DecoderConfig& config, const char* theta_key, double default_theta) {
  constexpr double kMostTheta = 1e12;
  const auto& row = *config.row;
  RopeConfig out;
  out.context = config.context;
  out.theta =
      rope.number("rope_theta", reader.number(theta_key, default_theta, 1.0 + 1e-6, kMostTheta),
                  1.0 + 1e-6, kMostTheta);
  out.width = config.head_dim;
  if (*row.keys.partial_rotary != '\0') {
    const double outer =
        reader.number(row.keys.partial_rotary, row.defaults.partial_rotary, 0.0, 1.0);
    const double part = rope.number("partial_rotary_factor", outer, 0.0, 1.0);
    out.width = static_cast<int64_t>(static_cast<double>(config.head_dim) * part);
  } else {
    reader.require_neutral("partial_rotary_factor", 1.0,
                           "rotating a part of each head in this architecture");
    rope.require_neutral("partial_rotary_factor", 1.0,
                         "rotating a part of each head in this architecture");
  }
  rope.require_neutral("mrope_section", nullptr, "multimodal rotary embedding");
  if (out.width < 2 || out.width % 2 != 0) {
    reader.problem(
        row.keys.heads,
        fmt::format("an even number of rotated channels a head was expected, got {}.", out.width));
    out.width = 2;
  }
  out.type = read_rope_type(rope, row);
  if (out.type != RopeType::plain) read_rope_scaling(reader, rope, row, out);
  return out;
}

/// Version 4 writes `rope_scaling` and keys beside it, version 5 `rope_parameters`, one object a
/// kind of layer where those differ. As in transformers, rope_scaling wins.
void read_ropes(const ConfigReader& reader, DecoderConfig& config) {
  const auto& row = *config.row;
  const auto parameters = reader.object("rope_parameters");
  const auto scaling = reader.object("rope_scaling");
  if (!row.local_rope) {
    const auto& rope = reader.has("rope_scaling") ? scaling : parameters;
    for (const char* kind : {"full_attention", "sliding_attention"}) {
      rope.require_neutral(kind, nullptr,
                           "a rope of its own for each kind of layer in this architecture");
    }
    config.rope = read_rope(reader, rope, config, row.keys.theta, row.defaults.theta);
    return;
  }
  const auto full = parameters.object("full_attention");
  const auto sliding = parameters.object("sliding_attention");
  if (reader.has("rope_parameters") && !parameters.has("full_attention") &&
      !parameters.has("sliding_attention")) {
    reader.problem("rope_parameters",
                   "an object with full_attention and sliding_attention was expected.");
  }
  constexpr double kLocalTheta = 10000.0;
  config.rope = read_rope(reader, reader.has("rope_scaling") ? scaling : full, config,
                          row.keys.theta, row.defaults.theta);
  config.local_rope = read_rope(reader, sliding, config, "rope_local_base_freq", kLocalTheta);
}

}  // namespace

DecoderConfig read_config(const Json& json, const std::string& where, Problems& problems) {
  DecoderConfig config;
  if (!json.is_object()) {
    problems.add(where, "a JSON object was expected.");
    return config;
  }
  const ConfigReader reader(json, where, problems);
  config.row = find_row(reader);
  if (config.row == nullptr) return config;
  const auto& row = *config.row;
  reader.require_neutral("quantization_config", nullptr, "a quantised model");
  read_task(reader, config);
  const bool sized = read_sizes(reader, config);
  config.norm_eps = reader.number(row.keys.eps, row.defaults.eps, 0.0, 1.0);
  config.activation = read_activation(reader, row);
  config.tied = reader.boolean("tie_word_embeddings", row.defaults.tied);
  const double deviation = reader.number("initializer_range", 0.02, 0.0, 1.0);
  config.initializer_range = deviation > 0.0 ? deviation : 0.02;
  if (!sized) return config;
  read_padding(reader, config);
  if (row.scales_embedding) config.embedding_scale = std::sqrt(static_cast<double>(config.width));
  const LayerConfig layer{.attention_scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim))};
  config.layer.assign(static_cast<size_t>(config.layers), layer);
  if (*row.names.positions == '\0') read_ropes(reader, config);
  row.read(reader, config);
  warn_about_dropout(reader, row);
  return config;
}

}  // namespace rlhf
