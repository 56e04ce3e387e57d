#include <ATen/ATen.h>

#include "rlhf/core/error.h"
#include "rlhf/kernels/thin_product.h"
#include "rlhf/math/head_tiles.h"
#include "rlhf/math/linear_logprobs.h"

namespace rlhf::reference {
namespace {

// z (R, V), at least fp32.
at::Tensor tempered(const at::Tensor& hidden, const Head& head, double temperature) {
  const auto z = logits(hidden, head);
  return z.to(z.scalar_type() == at::kDouble ? at::kDouble : at::kFloat) / temperature;
}

RowLogprobs gather(const at::Tensor& z, const at::Tensor& log_p, const at::Tensor& targets,
                   const LogprobOptions& options) {
  RowLogprobs out;
  out.logprobs = log_p.gather(1, targets.unsqueeze(1)).squeeze(1);
  if (options.entropy) {
    const auto entropy = -(log_p.exp() * log_p).sum(-1);
    out.entropy = options.entropy_grad ? entropy : entropy.detach();
  }
  if (options.top1) {
    out.top1 = log_p.detach().argmax(-1) == targets;
  }
  if (options.collision) {
    out.log_collision = (2 * log_p.detach()).logsumexp(-1);
  }
  if (options.mean_logit) {
    out.mean_logit = z.detach().mean(-1);
  }
  return out;
}

}  // namespace

at::Tensor logits(const at::Tensor& hidden, const Head& head) {
  auto z = linear_product(hidden, head.weight);
  if (head.bias.defined()) {
    z = z + head.bias;
  }
  if (head.logit_scale != 1.0) {
    z = z * head.logit_scale;
  }
  return head.softcap > 0.0 ? head.softcap * at::tanh(z / head.softcap) : z;
}

RowLogprobs linear_logprobs(const at::Tensor& hidden, const Head& head, const at::Tensor& targets,
                            const LogprobOptions& options) {
  check_head_arguments(hidden, head, targets, options);
  const auto z = tempered(hidden, head, options.temperature);
  return gather(z, at::log_softmax(z, -1), targets, options);
}

SupervisedLoss linear_supervised_loss(const at::Tensor& hidden, const Head& head,
                                      const at::Tensor& targets, const at::Tensor& coefficients,
                                      RowObjective objective, double label_smoothing,
                                      const LogprobOptions& options) {
  check_head_arguments(hidden, head, targets, options);
  const auto z = tempered(hidden, head, options.temperature);
  const auto log_p = at::log_softmax(z, -1);
  const auto rows = gather(z, log_p, targets, options);
  auto losses = -rows.logprobs;
  if (objective == RowObjective::dft) {
    losses = losses * rows.logprobs.detach().exp();
  } else if (label_smoothing > 0.0) {
    losses = (1.0 - label_smoothing) * losses - label_smoothing * log_p.mean(-1);
  }
  return {(losses * coefficients).sum(), rows.logprobs.detach(), rows.entropy, rows.top1};
}

}  // namespace rlhf::reference
