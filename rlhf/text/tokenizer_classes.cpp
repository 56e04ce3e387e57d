// What transformers' tokenizer classes do to a tokenizer.json (5.23,
// models/auto/tokenization_auto.py and models/llama/tokenization_llama.py). Only LlamaTokenizer
// departs from the file in ways that language models in use were meant for; see tokenizer.h.
#include <algorithm>
#include <array>

#include "rlhf/text/tokenizer_impl.h"

namespace rlhf {
namespace {

/// Model types for which transformers takes tokenizer.json as it is, whatever class the folder
/// names.
constexpr std::array<std::string_view, 68> kGenericModelTypes = {"arctic",
                                                                 "aria",
                                                                 "chatlm",
                                                                 "cohere_asr",
                                                                 "ernie4_5",
                                                                 "ernie4_5_moe",
                                                                 "flex_olmo",
                                                                 "fuyu",
                                                                 "glm",
                                                                 "glm4",
                                                                 "glm4_moe",
                                                                 "glm4_moe_lite",
                                                                 "glm4v",
                                                                 "glm4v_moe",
                                                                 "glm_image",
                                                                 "gpt_bigcode",
                                                                 "granite",
                                                                 "granitemoe",
                                                                 "granitemoehybrid",
                                                                 "granitemoeshared",
                                                                 "h2ovl_chat",
                                                                 "hyperclovax",
                                                                 "hyperclovax_vlm",
                                                                 "internlm2",
                                                                 "internlm3",
                                                                 "iquestcoder",
                                                                 "jamba",
                                                                 "kimi_k25",
                                                                 "kimi_linear",
                                                                 "llava",
                                                                 "llava_next",
                                                                 "mimo_v2_flash",
                                                                 "minicpm3",
                                                                 "minicpm_ocr",
                                                                 "minicpmv",
                                                                 "minicpmv4_6",
                                                                 "minicpmv4_7",
                                                                 "minimax_m2",
                                                                 "ministral",
                                                                 "ministral3",
                                                                 "mistral",
                                                                 "mistral3",
                                                                 "mistral_large4",
                                                                 "mixtral",
                                                                 "modernbert",
                                                                 "modernbert-decoder",
                                                                 "molmo",
                                                                 "molmo2",
                                                                 "nemotron",
                                                                 "olmo2",
                                                                 "olmo3",
                                                                 "olmo_hybrid",
                                                                 "opencua",
                                                                 "openvla",
                                                                 "paddleocr_vl",
                                                                 "persimmon",
                                                                 "phi3",
                                                                 "phi3_v",
                                                                 "phimoe",
                                                                 "pixtral",
                                                                 "smolvlm",
                                                                 "stablelm",
                                                                 "step3_vl",
                                                                 "umt5",
                                                                 "vipllava",
                                                                 "voxtral",
                                                                 "voxtral_realtime",
                                                                 "nvfp4"};

bool has_type(const Json& part, std::string_view type) {
  if (part.is_object() && part.contains("type") && part["type"] == type) {
    return true;
  }
  return part.is_structured() && std::any_of(part.begin(), part.end(), [&](const Json& inner) {
           return has_type(inner, type);
         });
}

bool truthy(const Json& config, std::string_view key, bool fallback) {
  const auto found = config.find(key);
  return found == config.end() || found->is_null() ? fallback
                                                   : found->is_boolean() && found->get<bool>();
}

}  // namespace

std::string rebuilding_class(const TokenizerFile& file, const Json& config,
                             std::string_view model_type) {
  std::string name = config.contains("tokenizer_class") && config["tokenizer_class"].is_string()
                         ? config["tokenizer_class"].get<std::string>()
                         : "";
  if (name.ends_with("Fast")) {
    name.resize(name.size() - 4);
  }
  const Json& parts = file.parts;
  const bool bpe = parts.is_object() && parts.contains("model") && has_type(parts["model"], "BPE");
  if (name != "LlamaTokenizer" || !bpe ||
      std::ranges::find(kGenericModelTypes, model_type) != kGenericModelTypes.end()) {
    return "";
  }
  const bool byte_level =
      (parts.contains("pre_tokenizer") && has_type(parts["pre_tokenizer"], "ByteLevel")) ||
      (parts.contains("decoder") && has_type(parts["decoder"], "ByteLevel"));
  return byte_level ? "" : name;
}

void apply_class(std::string_view name, const Json& config, TokenizerFile& file) {
  if (name != "LlamaTokenizer") {
    return;
  }
  const bool prefix = truthy(config, "add_prefix_space", true);
  const std::string_view scheme = !prefix                           ? "never"
                                  : truthy(config, "legacy", false) ? "always"
                                                                    : "first";
  Json& parts = file.parts;
  parts["normalizer"] = nullptr;
  parts["pre_tokenizer"] = {{"type", "Metaspace"},
                            {"replacement", "\xE2\x96\x81"},
                            {"prepend_scheme", scheme},
                            {"split", false}};
  Json steps = Json::array();
  steps.push_back(
      {{"type", "Replace"}, {"pattern", {{"String", "\xE2\x96\x81"}}}, {"content", " "}});
  steps.push_back({{"type", "ByteFallback"}});
  steps.push_back({{"type", "Fuse"}});
  if (prefix) {
    steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  parts["decoder"] = {{"type", "Sequence"}, {"decoders", steps}};
  Json& model = parts["model"];
  model = {{"type", "BPE"}, {"fuse_unk", true}, {"byte_fallback", true}};
}

}  // namespace rlhf
