#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/kernels/softmax_rows.h"
#include "rlhf/kernels/weight_gradient.h"
#include "rlhf/math/head_tiles.h"
#include "rlhf/math/linear_logprobs.h"

namespace rlhf {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct Objective {
  RowObjective kind;
  double smoothing;
};

// Everything a supervised pass gives; (R) but for the loss.
struct SupervisedPass {
  at::Tensor loss;  // double scalar
  at::Tensor logprobs;
  at::Tensor entropy;
  at::Tensor top1;
};

// Σ coefficient · objective over some rows, double.
at::Tensor objective_sum(const RowStats& stats, const at::Tensor& coefficients, int64_t vocab,
                         const Objective& objective) {
  const auto logprobs = stats.logprobs();
  if (objective.kind == RowObjective::dft) {
    return -(coefficients * logprobs.exp() * logprobs).sum();
  }
  auto rows = -logprobs;
  if (objective.smoothing > 0.0) {
    const auto mean =
        stats.max + stats.log_sum() - stats.total / static_cast<double>(vocab);  // mean_v −log p_v
    rows = (1.0 - objective.smoothing) * rows + objective.smoothing * mean;
  }
  return (coefficients * rows).sum();
}

// nll: c·(p_v − (1 − ε)·1[v = t] − ε/V);  dft: c·p_t·(p_v − 1[v = t]).
RowGradient objective_gradient(const RowStats& stats, const at::Tensor& coefficients, int64_t vocab,
                               const Objective& objective) {
  if (objective.kind == RowObjective::dft) {
    const auto weight = coefficients * stats.logprobs().exp();
    return {-weight, weight, {}, {}};
  }
  RowGradient gradient{coefficients * (objective.smoothing - 1.0), coefficients, {}, {}};
  if (objective.smoothing > 0.0) {
    gradient.constant = coefficients * (-objective.smoothing / static_cast<double>(vocab));
  }
  return gradient;
}

// Rows outside: a chunk's logits must be whole before its gradient overwrites them.
SupervisedPass supervised_pass(const HeadTiles& tiles, const at::Tensor& targets,
                               const at::Tensor& coefficients, const Objective& objective,
                               const LogprobOptions& options, HeadGradients* gradients) {
  const int64_t vocab = tiles.vocab();
  const int64_t chunk = supervised_chunk_rows(
      tiles.rows(), vocab, static_cast<int64_t>(tiles.options().dtype().itemsize()),
      options.chunk_rows);
  const int64_t width = tiles.tile_width(chunk);
  auto stats = RowStats::make(
      tiles.rows(),
      {.entropy = options.entropy, .total = objective.smoothing > 0.0, .argmax = options.top1},
      targets.device());
  auto loss = at::zeros({}, stats.max.options());
  const auto buffer =
      at::empty({chunk, gradients == nullptr ? std::min(width, vocab) : vocab}, tiles.options());
  for_pieces(tiles.rows(), chunk, [&](int64_t row, int64_t count) {
    const auto target = targets.narrow(0, row, count);
    const auto coefficient = coefficients.narrow(0, row, count);
    const auto rows = stats.narrow(row, count);
    const auto z = buffer.narrow(0, 0, count);
    for_pieces(vocab, width, [&](int64_t first, int64_t columns) {
      const auto tile = z.narrow(1, gradients == nullptr ? 0 : first, columns);
      tiles.logits(tiles.hidden(row, count), tiles.weight(first, columns), first, tile);
      softmax_update(tile, first, target, rows);
    });
    loss += objective_sum(rows, coefficient, vocab, objective);
    if (gradients == nullptr) {
      return;
    }
    const auto gradient = objective_gradient(rows, coefficient, vocab, objective);
    for_pieces(vocab, width, [&](int64_t first, int64_t columns) {
      const auto tile = z.narrow(1, first, columns);
      softmax_gradient(tile, first, target, rows, gradient, tiles.transform(), tile);
      gradients->add(tile, row, first, tiles.weight(first, columns));
    });
  });
  const auto type = tiles.options().dtype();
  return {
      loss, stats.logprobs().to(type),
      options.entropy ? stats.entropy().to(type) : at::empty({0}, tiles.options()),
      options.top1 ? stats.argmax == targets : at::empty({0}, targets.options().dtype(at::kBool))};
}

// The gradient is made in forward; backward scales it, but for what went into the weight's .grad.
class SupervisedHead : public torch::autograd::Function<SupervisedHead> {
 public:
  static variable_list forward(AutogradContext* ctx, const Variable& hidden, const Variable& weight,
                               const std::optional<Variable>& maybe_bias, const at::Tensor& targets,
                               const at::Tensor& coefficients, double logit_scale, double softcap,
                               const Objective& objective, const LogprobOptions& options) {
    const auto bias = maybe_bias.value_or(at::Tensor());
    const HeadTiles tiles(hidden, {weight, bias, logit_scale, softcap}, options.temperature);
    HeadGradients gradients(tiles, weight,
                            {.hidden = hidden.requires_grad(),
                             .weight = weight.requires_grad(),
                             .bias = bias.defined() && bias.requires_grad()});
    const auto pass = supervised_pass(tiles, targets, coefficients, objective, options, &gradients);
    ctx->save_for_backward({like(gradients.hidden, hidden), like(gradients.weight, weight),
                            like(gradients.bias, bias), weight});
    ctx->saved_data["in_place"] = gradients.in_place();
    const auto loss = pass.loss.to(tiles.options().dtype());
    ctx->mark_non_differentiable({pass.logprobs, pass.entropy, pass.top1});
    ctx->set_materialize_grads(false);
    return {loss, pass.logprobs, pass.entropy, pass.top1};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const auto& outer = grads[0];
    const bool one = outer.device().is_cpu() && outer.item<double>() == 1.0;
    check_walk(ctx, one);
    variable_list out(9);
    for (size_t i = 0; i < 3; ++i) {
      if (saved[i].defined()) out[i] = one ? saved[i] : saved[i] * outer.to(saved[i].scalar_type());
    }
    out[1] = weight_gradient(saved[3], out[1]);
    return out;
  }

 private:
  // What went into .grad in forward can be neither scaled nor added again.
  static void check_walk(AutogradContext* ctx, bool one) {
    if (!ctx->saved_data["in_place"].toBool()) return;
    const bool first = ctx->saved_data.emplace("walked", true).second;
    check(one && first, "linear_supervised_loss",
          "one backward() of the loss itself was expected where DirectGradients was open in its "
          "forward pass, got {}.",
          first ? "a factor other than 1" : "a second one");
  }

  static at::Tensor like(const at::Tensor& gradient, const at::Tensor& other) {
    return gradient.defined() ? gradient.to(other.scalar_type()) : gradient;
  }
};

void check_supervised_arguments(const at::Tensor& hidden, const at::Tensor& coefficients,
                                RowObjective objective, double smoothing) {
  check(coefficients.dim() == 1 && coefficients.size(0) == hidden.size(0), "linear_supervised_loss",
        "{} coefficients were expected, got ({}).", hidden.size(0),
        fmt::join(coefficients.sizes(), ", "));
  check(!coefficients.requires_grad(), "linear_supervised_loss",
        "coefficients are numbers known beforehand, got a tensor that requires a gradient.");
  check(smoothing >= 0.0 && smoothing < 1.0, "linear_supervised_loss",
        "label smoothing in [0, 1) was expected, got {}.", smoothing);
  check(smoothing == 0.0 || objective == RowObjective::nll, "linear_supervised_loss",
        "label smoothing mixes into nll only, got {} with dft.", smoothing);
}

}  // namespace

SupervisedLoss linear_supervised_loss(const at::Tensor& hidden, const Head& head,
                                      const at::Tensor& targets, const at::Tensor& coefficients,
                                      RowObjective objective, double label_smoothing,
                                      const LogprobOptions& options) {
  check_head_arguments(hidden, head, targets, options);
  check_supervised_arguments(hidden, coefficients, objective, label_smoothing);
  const auto places = targets.contiguous();
  const auto weights = coefficients.to(at::kDouble).contiguous();
  const Objective kind{objective, label_smoothing};
  const bool trains =
      at::GradMode::is_enabled() && (hidden.requires_grad() || head.weight.requires_grad() ||
                                     (head.bias.defined() && head.bias.requires_grad()));
  variable_list out;
  if (trains) {
    out = SupervisedHead::apply(hidden, head.weight, as_optional(head.bias), places, weights,
                                head.logit_scale, head.softcap, kind, options);
  } else {
    const at::NoGradGuard no_grad;
    const HeadTiles tiles(hidden, head, options.temperature);
    const auto pass = supervised_pass(tiles, places, weights, kind, options, /*gradients=*/nullptr);
    out = {pass.loss.to(tiles.options().dtype()), pass.logprobs, pass.entropy, pass.top1};
  }
  return {out[0], out[1], options.entropy ? out[2] : at::Tensor(),
          options.top1 ? out[3] : at::Tensor()};
}

}  // namespace rlhf
