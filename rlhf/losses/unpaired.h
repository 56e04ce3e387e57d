// Objectives on answers marked desirable or undesirable: from B log-ratios to a loss an answer.
// Each has its header (kto.h, bco.h); this one has the switch and the weights of the classes.
#pragma once

#include <ATen/core/Tensor.h>

#include "rlhf/losses/unpaired_options.h"

namespace rlhf {

/// Loss of each answer, (B), times its class's weight, to be averaged over the answers of the step.
/// log_ratios (B): D, differentiable, fp32 or double; desirable (B) bool. `anchor` is a number of
/// the whole step: z of kto (kto_reference_point), δ of bco (RunningMoments::mean);
/// apo_zero_unpaired uses none. Finite, and with a finite gradient, at log-ratios up to ±1e4. Error
/// for options out of range and for tensors that do not fit.
at::Tensor unpaired_loss(UnpairedLoss loss, const at::Tensor& log_ratios,
                         const at::Tensor& desirable, double anchor,
                         const UnpairedLossOptions& options);

}  // namespace rlhf
