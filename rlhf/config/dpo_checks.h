// Which options the losses of `rlhf dpo` use: an option that none of them uses is an error.
#pragma once

#include <string>

#include "rlhf/config/dpo_config.h"

namespace rlhf {

bool has_loss(const DpoOptions& options, DpoLoss loss);

/// One of cpo, simpo and orpo is among the losses: they may not be summed with others.
bool stands_alone(const DpoOptions& options);

/// Why there is no reference, a sentence; empty where there is one.
std::string why_no_reference(const DpoOptions& options);

/// Checks the losses' options against each other.
void check_losses(const DpoOptions& options, Problems& problems);

}  // namespace rlhf
