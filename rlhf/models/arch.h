// The architecture table: what a family of decoders is, as plain data.
//
// A row says how a model folder of that family names its configuration keys and its tensors, and
// what is built in. The decoder has no code per family: an optional part exists where the row gives
// it a name (a norm after the attention, a fused projection), and the rest are fields of
// DecoderConfig. Oracle: transformers 5 (tests/models, tools/make_models.py).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/core/error.h"
#include "rlhf/core/json.h"
#include "rlhf/nn/layers.h"
#include "rlhf/nn/rope.h"

namespace rlhf {

class ConfigReader;
struct DecoderConfig;

/// What stands behind the last norm.
enum class ModelTask {
  language_model,           ///< a matrix (V, C): the next token
  sequence_classification,  ///< scores of a whole row, read at its last token: reward models
  token_classification,     ///< scores of each token: process reward models, critics
};

/// Norm of queries and keys before they are rotated.
enum class QkNorm {
  none,
  head,   ///< over each head (qwen3, gemma3)
  width,  ///< over all heads together (olmo2)
};

/// How queries, keys and values are stored where they share one matrix.
enum class FusedQkv {
  stacked,      ///< all queries, then all keys, then all values (gpt2, phi3)
  interleaved,  ///< query, key and value of head 0, then of head 1, … (gpt_neox)
};

/// Names of configuration keys that differ between families.
struct ConfigKeys {
  const char* width = "hidden_size";
  const char* layers = "num_hidden_layers";
  const char* heads = "num_attention_heads";
  const char* key_heads = "num_key_value_heads";  ///< empty: as many as query heads
  const char* head_dim = "head_dim";              ///< empty: always width / heads
  const char* inner = "intermediate_size";
  const char* context = "max_position_embeddings";
  const char* eps = "rms_norm_eps";
  const char* activation = "hidden_act";
  const char* theta = "rope_theta";
  const char* partial_rotary = "";  ///< empty: all of a head is rotated
};

/// What transformers assumes where config.json has no such key.
struct ConfigDefaults {
  bool tied = false;
  double eps = 1e-6;
  const char* activation = "silu";
  int64_t key_heads = 0;        ///< 0: as many as query heads
  int64_t head_dim = 0;         ///< 0: width / heads
  int64_t inner_per_width = 0;  ///< F / C; 0: the key is required
  int64_t context = 2048;
  int64_t original_context = 0;  ///< 0: the context
  int64_t pad_id = -1;           ///< -1: none
  double theta = 10000.0;
  double partial_rotary = 1.0;
};

/// Names of modules; `.weight` and `.bias` are appended. Empty: the family has no such part. Names
/// of a layer come after
/// `<base><layer><number>.`, the others after `<base>`, the head stands alone.
struct TensorNames {
  const char* base = "model.";
  const char* embedding = "embed_tokens";
  const char* positions = "";
  const char* layer = "layers.";
  const char* attention_norm = "input_layernorm";
  const char* q = "self_attn.q_proj";
  const char* k = "self_attn.k_proj";
  const char* v = "self_attn.v_proj";
  const char* qkv = "";
  const char* q_norm = "";
  const char* k_norm = "";
  const char* attention_out = "self_attn.o_proj";
  const char* attention_post_norm = "";
  const char* mlp_norm = "post_attention_layernorm";
  const char* gate = "mlp.gate_proj";
  const char* gate_up = "";
  const char* up = "mlp.up_proj";
  const char* down = "mlp.down_proj";
  const char* mlp_post_norm = "";
  const char* final_norm = "norm";
  const char* head = "lm_head";
  const char* head_alias = "";       ///< a second name under which the head may be stored
  const char* token_head = "score";  ///< of token classification; a sequence's is always `score`
};

/// One family. Everything here is fixed by the family; what config.json may vary is read into
/// DecoderConfig.
struct ArchitectureRow {
  const char* model_type;           ///< `model_type` of config.json
  const char* class_name;           ///< the transformers class that loads it
  const char* sequence_class = "";  ///< the class with a score a row; empty: there is none
  const char* token_class = "";     ///< the class with a score a token; empty: there is none
  ConfigKeys keys = {};
  ConfigDefaults defaults = {};
  TensorNames names = {};
  NormKind norm = NormKind::rms;
  double norm_offset = 0.0;
  QkNorm qk_norm = QkNorm::none;
  FusedQkv fused_qkv = FusedQkv::stacked;
  bool transposed = false;        ///< matrices of the layers are stored (in, out)
  bool scales_embedding = false;  ///< embeddings times √C
  bool local_rope = false;        ///< sliding layers rotate by angles of their own
  bool longrope_only = false;     ///< "su" and "yarn" are old names of longrope
  bool padding_row = true;  ///< the embedding of pad_token_id takes no gradient through the input
  bool scaled_output_init = false;  ///< matrices that write to the residual start smaller by √(2L)
  std::vector<const char*> dropout_keys = {"attention_dropout"};
  std::vector<const char*> buffers = {
      "rotary_emb.inv_freq"};  ///< stored by old versions, no weights: name endings
  void (*read)(const ConfigReader&, DecoderConfig&) = nullptr;  ///< keys that only this family has

  /// The transformers class of a task; empty where the family has none.
  const char* class_for(ModelTask task) const;
};

/// Every supported family.
const std::vector<ArchitectureRow>& architectures();

/// What one layer does differently from its neighbours.
struct LayerConfig {
  int64_t window = 0;            ///< sliding window in tokens, 0 for none
  bool local_rope = false;       ///< rotates by DecoderConfig::local_rope
  double attention_scale = 1.0;  ///< factor on q·k
};

/// A model as config.json describes it.
struct DecoderConfig {
  const ArchitectureRow* row = nullptr;
  ModelTask task = ModelTask::language_model;
  int64_t labels = 0;       ///< scores that a classifier's head gives; 0 for a language model
  bool score_bias = false;  ///< the score head has a bias
  int64_t vocab_size = 0;
  int64_t width = 0;      ///< C
  int64_t layers = 0;     ///< L
  int64_t heads = 0;      ///< H
  int64_t key_heads = 0;  ///< K, divides H
  int64_t head_dim = 0;   ///< D; H·D need not be C
  int64_t inner = 0;      ///< F
  int64_t context = 0;    ///< longest row the model was made for
  int64_t pad_id =
      -1;  ///< embedding row that takes no gradient through the input, as in transformers; -1: none
  double norm_eps = 1e-6;
  GluActivation activation = GluActivation::silu;
  bool tied = false;  ///< the head is the embedding
  bool qkv_bias = false;
  bool attention_out_bias = false;
  bool mlp_bias = false;
  bool parallel_residual = false;  ///< h + attention(norm h) + mlp(norm' h), in one sum
  RopeConfig rope;                 ///< width 0: learned positions instead
  RopeConfig local_rope;           ///< gemma3's sliding layers
  double embedding_scale = 1.0;
  double residual_scale = 1.0;  ///< factor on what attention and MLP add
  double logit_scale = 1.0;
  double attention_softcap = 0.0;  ///< 0: none
  double final_softcap = 0.0;      ///< 0: none
  double initializer_range = 0.02;
  std::vector<LayerConfig> layer;  ///< (L)

  bool is_classifier() const { return task != ModelTask::language_model; }

  /// The longest row for which results do not depend on how rows share prefixes
  /// (RopeConfig::length_limit).
  int64_t shared_prefix_limit() const { return rope.length_limit(); }
};

/// Reads a parsed config.json, version-4 and version-5 names alike. Types and ranges of all keys
/// used are checked; `where` names the file. An unknown model_type, and keys that would change the
/// result and are not supported, are problems by name; dropout that transformers would apply in
/// training is switched off with a warning. The value is meaningful only if no problem was added.
DecoderConfig read_config(const Json& json, const std::string& where, Problems& problems);

}  // namespace rlhf
