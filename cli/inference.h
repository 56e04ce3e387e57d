// What the commands that run a model without training it share: the model, its tokenizer, rows,
// prompts, JSON lines.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/config/model_options.h"
#include "rlhf/core/options.h"
#include "rlhf/core/options_args.h"
#include "rlhf/data/encode.h"
#include "rlhf/data/encoded_rows.h"
#include "rlhf/data/source.h"
#include "rlhf/generate/engine.h"
#include "rlhf/models/folder.h"
#include "rlhf/train/setup.h"

namespace rlhf::cli {

/// Keys of every inference command.
struct InferenceOptions {
  std::string model;  ///< a model folder or a PEFT adapter folder
  std::optional<std::string> base_model;
  std::string data;
  std::string split = "train";
  std::optional<std::string> chat_template_path;
  Dtype dtype = Dtype::float32;
  DeviceChoice device = DeviceChoice::automatic;
  int64_t threads = 0;
  bool full_determinism = false;
};
void declare(OptionSet& set, InferenceOptions& options);
/// The same without those of data, which is then not read.
void declare_model(OptionSet& set, InferenceOptions& options);

/// Keys of the commands that sample.
struct SamplingFlags {
  SamplingOptions options;
  int64_t seed = 42;
  std::vector<std::string> stop;
  std::optional<std::string> prompt_column;
  double cache_gib = 2.0;
  int64_t max_rows = 128;
};
void declare(OptionSet& set, SamplingFlags& flags);
/// The keys of one completion alone.
void declare_sampler(OptionSet& set, SamplingFlags& flags);

/// Reads the command line; prints help and returns nothing where it asks for it. UserError with
/// every problem, missing `--model` and `--data` included.
std::optional<ParsedArguments> read_arguments(const OptionSet& set,
                                              std::span<const std::string> args,
                                              const std::string& usage,
                                              const std::vector<std::string>& required);

/// UserError naming every one of `keys` that was set: `why` says what does not use them.
void refuse_unused(const ParsedArguments& parsed, std::span<const std::string_view> keys,
                   std::string_view why);

/// What the model is, from configuration files alone: an adapter's base, with the adapter's task.
DecoderConfig model_config(const InferenceOptions& options);

/// A model folder ready to run, its adapter active where it is an adapter's.
struct LoadedModel {
  Model model;
  std::optional<TextSide> text;   ///< absent where the folder has no tokenizer: rows must carry ids
  std::vector<int32_t> stop_ids;  ///< eos_token_id of generation_config.json, else config.json; and
                                  ///< the tokenizer's EOS

  const ChatTemplate* chat() const { return text && text->chat ? &*text->chat : nullptr; }
};
/// Fixes threads, then loads. `task`: what the model must be; unset: what its folder says.
/// UserError with everything wrong.
LoadedModel load(const InferenceOptions& options, std::optional<ModelTask> task = std::nullopt);
/// The model of another folder, an adapter's too, in the type and on the device that the options
/// name.
Model load_other(const InferenceOptions& options, const std::string& folder, ModelTask task);

/// UserError where `output` would take the place of the data that are read.
void check_output(const std::optional<std::string>& output, const InferenceOptions& options);

/// The rows' files as the options name them.
DataSpec data_spec(const InferenceOptions& options);

/// UserError where an encoded set holds ids that the model does not have.
void check_content(const Content& content, const std::string& where, const Model& model);
/// UserError where the row has no token, or one that the model does not have.
void check_ids(const Record& record, std::span<const int32_t> ids, const Model& model);
/// UserError where a row has more tokens than a model with a table of positions can read.
void check_length(const std::string& where, int64_t tokens, const Model& model);

/// Runs fn(row, record) on every row, several at once, and throws every problem of every row
/// together, in order of rows.
void for_each_row(const RowSet& rows,
                  const std::function<void(int64_t row, Record& record, const Schema& schema)>& fn);

/// A prompt with the row it came from.
struct PromptRow {
  Record record;
  Prompt prompt;
};
/// Rows as prompts: the column `prompt` (or the one named), else `messages`, else `text`.
std::vector<PromptRow> read_prompts(const LoadedModel& loaded, const InferenceOptions& options,
                                    const std::optional<std::string>& prompt_column);

/// A completion and its text, which ends before the stop string where one ended it. No text without
/// a tokenizer.
struct TextCompletion {
  Completion completion;
  std::optional<std::string> text;
};

/// Samples and calls `done` with all samples of a prompt, in order of prompts, as soon as they are
/// there.
void sample(const LoadedModel& loaded, const std::vector<PromptRow>& rows,
            const SamplingFlags& flags,
            const std::function<void(size_t row, std::vector<TextCompletion>& samples)>& done);

/// `{"text", "ids", "logprobs", "sampling_logprobs", "finish_reason"}`.
Json to_json(const TextCompletion& sample);
/// Numbers with as few digits as read back to the same float.
Json to_json(std::span<const float> values);

/// JSON lines to a file, or to standard output where `path` is empty. UserError when the disk is
/// full.
class JsonLines {
 public:
  explicit JsonLines(std::optional<std::string> path);
  ~JsonLines();
  JsonLines(const JsonLines&) = delete;
  JsonLines& operator=(const JsonLines&) = delete;

  void write(const Json& row);
  /// Flushes and closes; what the destructor would fail to report.
  void finish();

 private:
  [[noreturn]] void fail_to_write() const;

  std::string path_;
  std::FILE* file_;
};

}  // namespace rlhf::cli
