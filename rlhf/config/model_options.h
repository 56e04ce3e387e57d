// Which model is trained, in which type, on which device; and how its tokenizer is changed. Names:
// TRL 1.16's ModelConfig and the tokenizer keys that its trainers share.
#pragma once

#include <optional>
#include <string>

#include "rlhf/core/options.h"

namespace rlhf {

enum class Dtype { automatic, float32, bfloat16, float16 };
template <>
struct EnumNames<Dtype> {
  static constexpr std::array<std::string_view, 4> names = {"auto", "float32", "bfloat16",
                                                            "float16"};
};

enum class DeviceChoice { automatic, cpu, cuda };
template <>
struct EnumNames<DeviceChoice> {
  static constexpr std::array<std::string_view, 3> names = {"auto", "cpu", "cuda"};
};

/// `model_init_kwargs`: what it says wins over the keys of the same name above it.
struct ModelInitOptions {
  std::optional<Dtype> dtype;
};

struct ModelOptions {
  std::optional<std::string> model_name_or_path;
  std::optional<Dtype> dtype = Dtype::float32;  ///< set once resolved; never float16
  ModelInitOptions model_init_kwargs;
  bool from_scratch = false;
  std::optional<Dtype> save_dtype;  ///< never automatic; null: the types of the source folder
  DeviceChoice device = DeviceChoice::automatic;
};

struct TokenizerOptions {
  std::optional<std::string> tokenizer_name_or_path{};  ///< null: the model folder
  std::optional<std::string> chat_template_path{};
  std::optional<std::string> chat_template{};  ///< the template itself; excludes the path
  std::optional<std::string> eos_token{};
  std::optional<std::string> pad_token{};
};

void declare(OptionSet& set, ModelOptions& options);
void declare(OptionSet& set, TokenizerOptions& options);

/// Folds `model_init_kwargs` into the keys it overrides. No dtype is float32.
void resolve(ModelOptions& options);
void validate(const ModelOptions& options, Problems& problems);
void validate(const TokenizerOptions& options, Problems& problems);

}  // namespace rlhf
