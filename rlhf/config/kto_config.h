// `rlhf kto`: its configuration, from the command line to the checked struct. Names and defaults:
// TRL 1.16's KTOConfig; those of 1.12's BCOConfig for loss_type bco.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/config/common_config.h"
#include "rlhf/config/ref_model_options.h"
#include "rlhf/losses/unpaired_options.h"

namespace rlhf {

struct KtoOptions {
  UnpairedLoss loss_type = UnpairedLoss::kto;
  UnpairedLossOptions loss;  ///< beta, desirable_weight, undesirable_weight

  std::optional<int64_t> max_length = 1024;
  bool unpair = false;  ///< take preference pairs too, each as two rows

  bool disable_dropout = true;  ///< see adapter_dropout()
  RefModelOptions reference;
};

struct KtoConfig : CommonConfig {
  KtoConfig() {
    training.learning_rate = 1e-6;
    training.train_sampling_strategy = SamplingStrategy::sequential;
  }

  KtoOptions kto;
};

/// As for dpo (dpo_config.h).
void declare(OptionSet& set, KtoOptions& options);
void declare(OptionSet& set, KtoConfig& config);
void resolve(KtoConfig& config, std::vector<std::string>* notes);
void validate(const KtoConfig& config, Problems& problems);

/// As read_sft_config and its siblings (sft_config.h).
KtoConfig read_kto_config(std::span<const std::string> args, std::vector<std::string>* notes);
std::string kto_help();
std::string resolved_yaml(const KtoConfig& config);
std::string resolved_table(const KtoConfig& config);

}  // namespace rlhf
