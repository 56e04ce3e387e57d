// `rlhf sft`: its configuration, from the command line to the checked struct. Names and defaults:
// TRL 1.16's SFTConfig, ModelConfig, ScriptArguments and DatasetMixtureConfig.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/config/common_config.h"
#include "rlhf/core/options.h"

namespace rlhf {

enum class PackingChoice { bfd, bfd_split, wrapped };
template <>
struct EnumNames<PackingChoice> {
  static constexpr std::array<std::string_view, 3> names = {"bfd", "bfd_split", "wrapped"};
};

enum class SftLoss { nll, dft };
template <>
struct EnumNames<SftLoss> {
  static constexpr std::array<std::string_view, 2> names = {"nll", "dft"};
};

/// What supervised fine-tuning adds.
struct SftOptions {
  std::optional<int64_t> max_length = 1024;
  TruncationChoice truncation_mode = TruncationChoice::keep_start;
  bool shuffle_dataset = false;
  bool packing = false;
  PackingChoice packing_strategy = PackingChoice::bfd;
  std::optional<bool> eval_packing;  ///< set once resolved
  std::optional<bool> completion_only_loss;
  bool assistant_only_loss = false;
  SftLoss loss_type = SftLoss::nll;
};

struct SftConfig : CommonConfig {
  SftConfig() { training.learning_rate = 2e-5; }

  SftOptions sft;
};

/// The method's own options.
void declare(OptionSet& set, SftOptions& options);

/// Declares every option of the command and every key that sets nothing; `config` must outlive
/// `set`.
void declare(OptionSet& set, SftConfig& config);

/// Fills what follows from other keys. Resolving twice changes nothing more.
void resolve(SftConfig& config, std::vector<std::string>* notes);

/// Checks keys against each other; call on a resolved configuration. What depends on the data or
/// the model folder is checked where those are read.
void validate(const SftConfig& config, Problems& problems);

/// Reads `--config FILE` and flags (without the words `rlhf sft`), resolves and checks. Throws
/// UserError with all problems. `notes`, where given, takes the lines on keys that have no effect
/// here; they are for the log. `--help` is the caller's to answer first.
SftConfig read_sft_config(std::span<const std::string> args, std::vector<std::string>* notes);

/// `rlhf sft --help`.
std::string sft_help();

/// The resolved configuration: YAML that reads back to the same, and an aligned table that marks
/// what was changed.
std::string resolved_yaml(const SftConfig& config);
std::string resolved_table(const SftConfig& config);

}  // namespace rlhf
