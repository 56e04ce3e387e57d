// What every trainer does before its first step: device and type, tokenizer and template, output
// folder, resume.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rlhf/config/data_options.h"
#include "rlhf/config/model_options.h"
#include "rlhf/config/training_options.h"
#include "rlhf/core/file.h"
#include "rlhf/data/encode.h"
#include "rlhf/data/source.h"
#include "rlhf/report/progress.h"
#include "rlhf/text/chat_template.h"
#include "rlhf/text/tokenizer.h"

namespace rlhf {

/// What the program lends a trainer. Any may be empty.
struct TrainHooks {
  std::function<void(const Progress&)> on_progress{};  ///< after every step
  std::function<void(int64_t step, int64_t total_steps, const Json& metrics)>
      on_log{};                                            ///< after every logged line
  std::function<void(const std::string& text)> on_text{};  ///< tables: configuration, data
  std::function<void(int64_t done, int64_t total)>
      on_reference{};                   ///< rows whose reference log-probabilities are known
  std::function<bool()> should_stop{};  ///< asked after every step, and while completions are drawn
};

enum class TrainEnd { done, stopped_early, interrupted };

/// Fixes the number of threads for this process and refuses what would change it later. Returns the
/// number.
int fix_threads(int64_t wanted);

at::Device choose_device(DeviceChoice choice, bool use_cpu);

/// The type weights are held and multiplied in. `automatic` measures one matrix product in fp32 and
/// in bf16, once.
at::ScalarType choose_dtype(const ModelOptions& model, std::optional<bool> bf16, at::Device device);

/// The type of `save_dtype`, which is never automatic; null: each tensor's stored type.
std::optional<at::ScalarType> torch_dtype(std::optional<Dtype> save_dtype);

/// Tokenizer and template as the options change them, and the files that a saved model carries
/// along.
struct TextSide {
  fs::path folder;  ///< where it was read
  Tokenizer tokenizer;
  std::optional<ChatTemplate> chat;
  std::string template_text;
  std::string eos_token;  ///< `eos_token` of the options; empty: the tokenizer's own
  std::vector<std::pair<std::string, std::string>>
      files;  ///< name and bytes, as the folder holds them unless changed

  /// The token that ends a text: `eos_token`, else the tokenizer's.
  std::optional<int32_t> eos_id() const;
  /// Names another padding token in tokenizer_config.json.
  void set_pad_token(const std::string& token);
};

/// UserError with everything wrong: no tokenizer, a token that the vocabulary does not have, a
/// template that cannot be read.
TextSide load_text_side(const fs::path& model_folder, const TokenizerOptions& options);

/// How the rows of any method become ids.
TextOptions text_options(const TextSide& text, const DataOptions& data);

/// Where training rows come from, and where evaluation rows do, if anywhere.
struct DataSpecs {
  DataSpec train;
  std::optional<DataSpec> eval;
};
DataSpecs data_specs(const DataOptions& options, uint64_t seed);

/// The evaluation rows of `specs`. UserError where there are none.
DataSpec evaluation_spec(const DataSpecs& specs, const DataOptions& options);

/// The folder of encoded rows: `cache_dir`, else `$XDG_CACHE_HOME/rlhf`, else `~/.cache/rlhf`.
fs::path cache_folder(const DataOptions& options);

/// The checkpoint to go on from, if the options name one (or ask for the latest and there is one).
std::optional<fs::path> checkpoint_to_resume(const TrainingOptions& options);

/// UserError when `output_dir` already holds a run that neither resume_from_checkpoint nor
/// overwrite_output_dir speaks of.
void check_output_folder(const TrainingOptions& options, bool resumes);

/// Most memory this process has had, in bytes.
uint64_t peak_memory_bytes();

}  // namespace rlhf
