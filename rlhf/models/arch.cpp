#include "rlhf/models/arch.h"

#include <cmath>
#include <optional>

#include "rlhf/models/config_reader.h"

namespace rlhf {
namespace {

constexpr int64_t kLongestWindow = int64_t{1} << 40;

/// One flag for the biases of all four attention projections.
void read_attention_bias(const ConfigReader& reader, DecoderConfig& config, bool missing) {
  config.qkv_bias = config.attention_out_bias = reader.boolean("attention_bias", missing);
}

void set_attention_scale(DecoderConfig& config, double scale) {
  for (auto& layer : config.layer) layer.attention_scale = scale;
}

/// Windows by `layer_types`, or where that key is absent by `is_sliding(number of the layer)`.
template <class Rule>
void read_windows(const ConfigReader& reader, DecoderConfig& config, int64_t window,
                  Rule is_sliding) {
  const auto types = reader.texts("layer_types", config.layer.size());
  for (size_t i = 0; i < config.layer.size(); ++i) {
    bool sliding = is_sliding(static_cast<int64_t>(i));
    if (types) {
      const auto& type = (*types)[i];
      sliding = type == "sliding_attention";
      if (!sliding && type != "full_attention") {
        reader.problem(
            "layer_types",
            fmt::format("full_attention or sliding_attention was expected, got '{}'.", type));
      }
    }
    if (!sliding) continue;
    if (window == 0) {
      reader.problem("layer_types",
                     fmt::format("sliding_window was expected for the sliding layer {}.", i));
      return;
    }
    config.layer[i].window = window;
    config.layer[i].local_rope = config.row->local_rope;
  }
}

/// One window for all layers, or none.
void read_one_window(const ConfigReader& reader, DecoderConfig& config, int64_t missing) {
  const int64_t window = reader.integer("sliding_window", missing, 0, kLongestWindow);
  for (auto& layer : config.layer) layer.window = window;
}

void read_llama(const ConfigReader& reader, DecoderConfig& config) {
  read_attention_bias(reader, config, false);
  config.mlp_bias = reader.boolean("mlp_bias", false);
}

void read_mistral(const ConfigReader& reader, DecoderConfig& config) {
  // A null means no window, a missing key the default one.
  constexpr int64_t kDefaultWindow = 4096;
  read_one_window(reader, config, reader.is_null("sliding_window") ? 0 : kDefaultWindow);
}

void read_qwen_windows(const ConfigReader& reader, DecoderConfig& config) {
  constexpr int64_t kDefaultWindow = 4096;
  constexpr int64_t kDefaultFullLayers = 28;
  const bool on = reader.boolean("use_sliding_window", false);
  const int64_t missing = reader.is_null("sliding_window") ? 0 : kDefaultWindow;
  const int64_t window = on ? reader.integer("sliding_window", missing, 1, kLongestWindow) : 0;
  const int64_t first = reader.integer("max_window_layers", kDefaultFullLayers, 0, kLongestWindow);
  read_windows(reader, config, window, [&](int64_t i) { return window > 0 && i >= first; });
}

void read_qwen2(const ConfigReader& reader, DecoderConfig& config) {
  config.qkv_bias = true;
  read_qwen_windows(reader, config);
}

void read_qwen3(const ConfigReader& reader, DecoderConfig& config) {
  read_attention_bias(reader, config, false);
  read_qwen_windows(reader, config);
}

void read_gemma(const ConfigReader& reader, DecoderConfig& config) {
  read_attention_bias(reader, config, false);
  reader.require_neutral("use_bidirectional_attention", false, "attention to later tokens");
  // The first releases say gelu and mean its tanh form.
  if (config.activation == GluActivation::gelu) config.activation = GluActivation::gelu_tanh;
}

void read_later_gemma(const ConfigReader& reader, DecoderConfig& config,
                      double default_final_softcap) {
  constexpr double kLargestCap = 1e6;
  read_attention_bias(reader, config, false);
  reader.require_neutral("use_bidirectional_attention", false, "attention to later tokens");
  set_attention_scale(
      config, 1.0 / std::sqrt(reader.number("query_pre_attn_scalar", 256.0, 1e-6, kLargestCap)));
  const double missing = reader.is_null("final_logit_softcapping") ? 0.0 : default_final_softcap;
  config.final_softcap = reader.number("final_logit_softcapping", missing, 0.0, kLargestCap);
}

int64_t read_gemma_window(const ConfigReader& reader) {
  constexpr int64_t kDefaultWindow = 4096;
  return reader.integer("sliding_window", kDefaultWindow, 1, kLongestWindow);
}

void read_gemma2(const ConfigReader& reader, DecoderConfig& config) {
  read_later_gemma(reader, config, /*default_final_softcap=*/30.0);
  const double missing = reader.is_null("attn_logit_softcapping") ? 0.0 : 50.0;
  config.attention_softcap = reader.number("attn_logit_softcapping", missing, 0.0, 1e6);
  read_windows(reader, config, read_gemma_window(reader), [](int64_t i) { return i % 2 == 0; });
}

void read_gemma3(const ConfigReader& reader, DecoderConfig& config) {
  read_later_gemma(reader, config, /*default_final_softcap=*/0.0);
  reader.require_neutral("attn_logit_softcapping", nullptr,
                         "a soft-cap on attention in this architecture");
  const int64_t pattern = reader.integer("sliding_window_pattern", 6, 1, kLongestWindow);
  read_windows(reader, config, read_gemma_window(reader),
               [&](int64_t i) { return (i + 1) % pattern != 0; });
}

void read_phi3(const ConfigReader& reader, DecoderConfig& config) {
  read_one_window(reader, config, 0);
}

void read_gpt2(const ConfigReader& reader, DecoderConfig& config) {
  config.qkv_bias = config.attention_out_bias = config.mlp_bias = true;
  reader.require_neutral("add_cross_attention", false, "cross-attention");
  if (!reader.boolean("scale_attn_weights", true)) set_attention_scale(config, 1.0);
  if (reader.boolean("scale_attn_by_inverse_layer_idx", false)) {
    for (size_t i = 0; i < config.layer.size(); ++i)
      config.layer[i].attention_scale /= static_cast<double>(i + 1);
  }
}

void read_gpt_neox(const ConfigReader& reader, DecoderConfig& config) {
  read_attention_bias(reader, config, true);
  config.mlp_bias = true;
  config.parallel_residual = reader.boolean("use_parallel_residual", true);
}

void read_olmo2(const ConfigReader& reader, DecoderConfig& config) {
  read_attention_bias(reader, config, false);
}

void read_granite(const ConfigReader& reader, DecoderConfig& config) {
  constexpr double kMost = 1e6;
  constexpr double kLeast = 1e-9;
  read_attention_bias(reader, config, false);
  config.mlp_bias = reader.boolean("mlp_bias", false);
  config.embedding_scale = reader.number("embedding_multiplier", 1.0, kLeast, kMost);
  config.residual_scale = reader.number("residual_multiplier", 1.0, kLeast, kMost);
  config.logit_scale = 1.0 / reader.number("logits_scaling", 1.0, kLeast, kMost);
  set_attention_scale(config, reader.number("attention_multiplier", 1.0, kLeast, kMost));
}

}  // namespace

const char* ArchitectureRow::class_for(ModelTask task) const {
  switch (task) {
    case ModelTask::language_model:
      return class_name;
    case ModelTask::sequence_classification:
      return sequence_class;
    case ModelTask::token_classification:
      return token_class;
  }
  return "";
}

// clang-format off
const std::vector<ArchitectureRow>& architectures() {
  static const std::vector<ArchitectureRow> rows = {
      {.model_type = "llama",  // also SmolLM2, TinyLlama, Yi, DeepSeek's dense models
       .class_name = "LlamaForCausalLM",
       .sequence_class = "LlamaForSequenceClassification",
       .token_class = "LlamaForTokenClassification",
       .read = read_llama},
      {.model_type = "mistral",
       .class_name = "MistralForCausalLM",
       .sequence_class = "MistralForSequenceClassification",
       .token_class = "MistralForTokenClassification",
       .defaults = {.key_heads = 8, .context = 131072},
       .read = read_mistral},
      {.model_type = "qwen2",
       .class_name = "Qwen2ForCausalLM",
       .sequence_class = "Qwen2ForSequenceClassification",
       .token_class = "Qwen2ForTokenClassification",
       .defaults = {.key_heads = 32, .context = 32768},
       .read = read_qwen2},
      {.model_type = "qwen3",
       .class_name = "Qwen3ForCausalLM",
       .sequence_class = "Qwen3ForSequenceClassification",
       .token_class = "Qwen3ForTokenClassification",
       .defaults = {.key_heads = 32, .head_dim = 128, .context = 32768},
       .names = {.q_norm = "self_attn.q_norm", .k_norm = "self_attn.k_norm"},
       .qk_norm = QkNorm::head,
       .read = read_qwen3},
      {.model_type = "gemma",
       .class_name = "GemmaForCausalLM",
       .sequence_class = "GemmaForSequenceClassification",
       .token_class = "GemmaForTokenClassification",
       .defaults = {.tied = true, .activation = "gelu_pytorch_tanh", .key_heads = 16, .head_dim = 256,
                    .context = 8192, .pad_id = 0},
       .norm_offset = 1.0,
       .scales_embedding = true,
       .read = read_gemma},
      {.model_type = "gemma2",
       .class_name = "Gemma2ForCausalLM",
       .sequence_class = "Gemma2ForSequenceClassification",
       .token_class = "Gemma2ForTokenClassification",
       .keys = {.activation = "hidden_activation"},
       .defaults = {.tied = true, .activation = "gelu_pytorch_tanh", .key_heads = 4, .head_dim = 256,
                    .context = 8192, .pad_id = 0},
       .names = {.attention_post_norm = "post_attention_layernorm",
                 .mlp_norm = "pre_feedforward_layernorm",
                 .mlp_post_norm = "post_feedforward_layernorm"},
       .norm_offset = 1.0,
       .scales_embedding = true,
       .read = read_gemma2},
      {.model_type = "gemma3_text",
       .class_name = "Gemma3ForCausalLM",
       .sequence_class = "Gemma3TextForSequenceClassification",
       .keys = {.activation = "hidden_activation"},
       .defaults = {.tied = true, .activation = "gelu_pytorch_tanh", .key_heads = 4, .head_dim = 256,
                    .context = 131072, .pad_id = 0, .theta = 1e6},
       .names = {.q_norm = "self_attn.q_norm",
                 .k_norm = "self_attn.k_norm",
                 .attention_post_norm = "post_attention_layernorm",
                 .mlp_norm = "pre_feedforward_layernorm",
                 .mlp_post_norm = "post_feedforward_layernorm"},
       .norm_offset = 1.0,
       .qk_norm = QkNorm::head,
       .scales_embedding = true,
       .local_rope = true,
       .read = read_gemma3},
      {.model_type = "phi3",
       .class_name = "Phi3ForCausalLM",
       .sequence_class = "Phi3ForSequenceClassification",
       .token_class = "Phi3ForTokenClassification",
       .keys = {.partial_rotary = "partial_rotary_factor"},
       .defaults = {.eps = 1e-5, .context = 4096, .original_context = 4096, .pad_id = 32000},
       .names = {.q = "", .k = "", .v = "", .qkv = "self_attn.qkv_proj",
                 .gate = "", .gate_up = "mlp.gate_up_proj", .up = ""},
       .fused_qkv = FusedQkv::stacked,
       .longrope_only = true,
       .dropout_keys = {"attention_dropout", "resid_pdrop", "embd_pdrop"},
       .read = read_phi3},
      {.model_type = "gpt2",
       .class_name = "GPT2LMHeadModel",
       .sequence_class = "GPT2ForSequenceClassification",
       .token_class = "GPT2ForTokenClassification",
       .keys = {.width = "n_embd", .layers = "n_layer", .heads = "n_head", .key_heads = "", .head_dim = "",
                .inner = "n_inner", .context = "n_positions", .eps = "layer_norm_epsilon",
                .activation = "activation_function"},
       .defaults = {.tied = true, .eps = 1e-5, .activation = "gelu_new", .inner_per_width = 4, .context = 1024},
       .names = {.base = "transformer.", .embedding = "wte", .positions = "wpe", .layer = "h.",
                 .attention_norm = "ln_1", .q = "", .k = "", .v = "", .qkv = "attn.c_attn",
                 .attention_out = "attn.c_proj", .mlp_norm = "ln_2", .gate = "", .up = "mlp.c_fc",
                 .down = "mlp.c_proj", .final_norm = "ln_f", .token_head = "classifier"},
       .norm = NormKind::layer,
       .fused_qkv = FusedQkv::stacked,
       .transposed = true,
       .padding_row = false,
       .scaled_output_init = true,
       .dropout_keys = {"attn_pdrop", "resid_pdrop", "embd_pdrop"},
       .buffers = {"attn.bias", "attn.masked_bias"},
       .read = read_gpt2},
      {.model_type = "gpt_neox",  // Pythia
       .class_name = "GPTNeoXForCausalLM",
       .sequence_class = "GPTNeoXForSequenceClassification",
       .token_class = "GPTNeoXForTokenClassification",
       .keys = {.key_heads = "", .head_dim = "", .eps = "layer_norm_eps", .theta = "rotary_emb_base",
                .partial_rotary = "rotary_pct"},
       .defaults = {.eps = 1e-5, .activation = "gelu", .partial_rotary = 0.25},
       .names = {.base = "gpt_neox.", .embedding = "embed_in", .q = "", .k = "", .v = "",
                 .qkv = "attention.query_key_value", .attention_out = "attention.dense", .gate = "",
                 .up = "mlp.dense_h_to_4h", .down = "mlp.dense_4h_to_h", .final_norm = "final_layer_norm",
                 .head = "embed_out", .head_alias = "lm_head", .token_head = "classifier"},
       .norm = NormKind::layer,
       .fused_qkv = FusedQkv::interleaved,
       .padding_row = false,
       .dropout_keys = {"attention_dropout", "hidden_dropout"},
       .buffers = {"attention.bias", "attention.masked_bias", "rotary_emb.inv_freq"},
       .read = read_gpt_neox},
      {.model_type = "olmo2",
       .class_name = "Olmo2ForCausalLM",
       .sequence_class = "Olmo2ForSequenceClassification",
       .defaults = {.eps = 1e-5, .pad_id = 1},
       .names = {.attention_norm = "",
                 .q_norm = "self_attn.q_norm",
                 .k_norm = "self_attn.k_norm",
                 .attention_post_norm = "post_attention_layernorm",
                 .mlp_norm = "",
                 .mlp_post_norm = "post_feedforward_layernorm"},
       .qk_norm = QkNorm::width,
       .read = read_olmo2},
      {.model_type = "granite",
       .class_name = "GraniteForCausalLM",
       .read = read_granite},
  };
  return rows;
}
// clang-format on

}  // namespace rlhf
