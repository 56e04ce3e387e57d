#include "rlhf/losses/unpaired.h"

#include <ATen/ATen.h>

#include "rlhf/core/error.h"
#include "rlhf/losses/bco.h"
#include "rlhf/losses/kto.h"

namespace rlhf {
namespace {

constexpr const char* kWhere = "unpaired_loss";

at::Tensor unweighted(UnpairedLoss loss, const at::Tensor& log_ratios, const at::Tensor& desirable,
                      double anchor, double beta) {
  switch (loss) {
    case UnpairedLoss::kto:
      return kto_loss(log_ratios, desirable, anchor, beta);
    case UnpairedLoss::apo_zero_unpaired:
      return apo_zero_unpaired_loss(log_ratios, desirable, beta);
    case UnpairedLoss::bco:
      return bco_loss(log_ratios, desirable, anchor, beta);
  }
  fail(kWhere, "a known loss was expected.");
}

}  // namespace

at::Tensor unpaired_loss(UnpairedLoss loss, const at::Tensor& log_ratios,
                         const at::Tensor& desirable, double anchor,
                         const UnpairedLossOptions& options) {
  check(options.beta > 0, kWhere, "a beta above 0 was expected, got {}.", options.beta);
  check(options.desirable_weight >= 0 && options.undesirable_weight >= 0, kWhere,
        "weights of at least 0 were expected, got {} and {}.", options.desirable_weight,
        options.undesirable_weight);
  check(log_ratios.dim() == 1 && desirable.sizes() == log_ratios.sizes() &&
            desirable.scalar_type() == at::kBool,
        kWhere, "log-ratios (B) and a bool for each were expected, got ({}) and {} ({}).",
        fmt::join(log_ratios.sizes(), ", "), toString(desirable.scalar_type()),
        fmt::join(desirable.sizes(), ", "));
  const auto losses = unweighted(loss, log_ratios, desirable, anchor, options.beta);
  if (options.desirable_weight == 1.0 && options.undesirable_weight == 1.0) {
    return losses;
  }
  return at::where(desirable, options.desirable_weight * losses,
                   options.undesirable_weight * losses);
}

}  // namespace rlhf
