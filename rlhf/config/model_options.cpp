#include "rlhf/config/model_options.h"

#include "rlhf/config/inert_keys.h"

namespace rlhf {
namespace {

constexpr std::string_view kNoHalf = "use bfloat16, whose range needs no loss scaling, or float32.";

void declare_init(OptionSet& set, ModelInitOptions& options) {
  set.add("dtype", options.dtype, "Overrides dtype.")
      .one_of({"auto", "float32", "bfloat16"})
      .advice(std::string(kNoHalf))
      .old_name("torch_dtype");
  declare_inert_model_init_keys(set);
}

}  // namespace

void declare(OptionSet& set, ModelOptions& options) {
  set.group("Model");
  set.add("model_name_or_path", options.model_name_or_path,
          "Model folder: config.json, safetensors, tokenizer files. Nothing is downloaded.");
  set.add("dtype", options.dtype,
          "Type of the trained weights. auto: the faster of both on this machine, measured once; "
          "null: float32.")
      .one_of({"auto", "float32", "bfloat16"})
      .advice(std::string(kNoHalf))
      .old_name("torch_dtype");
  set.add_record("model_init_kwargs", options.model_init_kwargs,
                 "What TRL hands to from_pretrained.", declare_init);
  set.add("from_scratch", options.from_scratch,
          "Start from random weights, drawn with seed, by config.json alone; weights in the folder "
          "are not read.");
  set.add("save_dtype", options.save_dtype,
          "Type of the written weights; null: that of the source folder.")
      .one_of({"float32", "bfloat16", "float16"});
  set.add("device", options.device,
          "Where to compute. auto: CUDA where there is a device, else the CPU.");
}

void declare(OptionSet& set, TokenizerOptions& options) {
  set.group("Tokenizer");
  set.add("tokenizer_name_or_path", options.tokenizer_name_or_path,
          "Folder with the tokenizer's files, which are saved with the model; null: the model's.");
  set.add("chat_template_path", options.chat_template_path,
          "Chat template to use and to save: a Jinja file, or a folder with a tokenizer.");
  set.add("chat_template", options.chat_template,
          "The template itself, as Jinja text, in place of chat_template_path.");
  set.add("eos_token", options.eos_token,
          "Token that ends a turn and a text; null: the tokenizer's.");
  set.add("pad_token", options.pad_token,
          "Padding token to write into the saved tokenizer; null: the tokenizer's. Nothing is "
          "padded here.");
}

void resolve(ModelOptions& options) {
  if (options.model_init_kwargs.dtype) options.dtype = options.model_init_kwargs.dtype;
  if (!options.dtype) options.dtype = Dtype::float32;
}

void validate(const ModelOptions& options, Problems& problems) {
  if (!options.model_name_or_path || options.model_name_or_path->empty()) {
    problems.add("model_name_or_path", "expected a model folder, got nothing.",
                 "pass --model_name_or_path DIR.");
  }
}

void validate(const TokenizerOptions& options, Problems& problems) {
  if (options.chat_template && options.chat_template_path) {
    problems.add("chat_template", "chat_template_path names a template too.",
                 "keep one of the two.");
  }
  if (options.tokenizer_name_or_path && options.tokenizer_name_or_path->empty()) {
    problems.add("tokenizer_name_or_path", "expected a folder with tokenizer files, got nothing.",
                 "remove the key for the model folder's own.");
  }
}

}  // namespace rlhf
