#include "rlhf/math/linear_logprobs.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/kernels/softmax_rows.h"
#include "rlhf/kernels/weight_gradient.h"
#include "rlhf/math/head_tiles.h"

namespace rlhf {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// What one pass over the vocabulary leaves.
struct ForwardPass {
  RowStats stats;
  at::Tensor logits;     // (R, V) if they are to be kept
  at::Tensor direction;  // (R, C) d logprob / d hidden, if asked for
};

enum class Keep { nothing, logits, direction };

// Vocabulary outside, rows inside: a tile of the weight is read (and widened) once.
ForwardPass forward_pass(const HeadTiles& tiles, const at::Tensor& targets,
                         const LogprobOptions& options, Keep keep) {
  const int64_t rows = tiles.rows();
  const int64_t chunk = head_chunk_rows(tiles, options);
  const int64_t width = tiles.tile_width(std::min(chunk, rows));
  ForwardPass pass;
  pass.stats = RowStats::make(rows,
                              {.entropy = options.entropy,
                               .collision = options.collision,
                               .total = options.mean_logit,
                               .argmax = options.top1},
                              targets.device());
  at::Tensor buffer;
  at::Tensor expected;  // Σ_v weight of v · w_v
  if (keep == Keep::logits) {
    pass.logits = at::empty({rows, tiles.vocab()}, tiles.options());
  } else {
    buffer = at::empty({std::min(chunk, rows) * std::min(width, tiles.vocab())}, tiles.options());
  }
  if (keep == Keep::direction) {
    expected = at::zeros_like(tiles.hidden(0, rows));
  }
  for_pieces(tiles.vocab(), width, [&](int64_t first, int64_t columns) {
    const auto weight = tiles.weight(first, columns);
    for_pieces(rows, chunk, [&](int64_t row, int64_t count) {
      const auto z = keep == Keep::logits
                         ? pass.logits.narrow(0, row, count).narrow(1, first, columns)
                         : buffer.narrow(0, 0, count * columns).view({count, columns});
      const auto stats = pass.stats.narrow(row, count);
      const auto target = targets.narrow(0, row, count);
      tiles.logits(tiles.hidden(row, count), weight, first, z);
      if (keep != Keep::direction) {
        softmax_update(z, first, target, stats);
        return;
      }
      const auto rescale =
          softmax_weights(z, first, target, stats, tiles.transform().cap_inverse());
      expected.narrow(0, row, count).mul_(rescale.unsqueeze(1)).addmm_(z, weight);
    });
  });
  if (keep == Keep::direction) {
    const auto scale = (tiles.transform().factor() / pass.stats.sum).to(expected.scalar_type());
    pass.direction =
        tiles.target_direction(targets, pass.stats).sub_(expected.mul_(scale.unsqueeze(1)));
  }
  return pass;
}

// Log-probability and entropy, which may carry a gradient, then what carries none. What a caller
// did not ask for travels through autograd as an empty tensor.
variable_list row_outputs(const ForwardPass& pass, const at::Tensor& targets,
                          const HeadTiles& tiles, const LogprobOptions& options) {
  const auto& stats = pass.stats;
  const auto type = tiles.options().dtype();
  const auto none = [&] { return at::empty({0}, tiles.options()); };
  return {
      stats.logprobs().to(type), options.entropy ? stats.entropy().to(type) : none(),
      options.top1 ? stats.argmax == targets : at::empty({0}, targets.options().dtype(at::kBool)),
      options.collision ? stats.log_collision().to(type) : none(),
      options.mean_logit ? (stats.total / static_cast<double>(tiles.vocab())).to(type) : none()};
}

RowLogprobs named(const variable_list& outputs, const LogprobOptions& options) {
  const auto asked = [&](bool flag, size_t i) { return flag ? outputs[i] : at::Tensor(); };
  return {outputs[0], asked(options.entropy, 1), asked(options.top1, 2),
          asked(options.collision, 3), asked(options.mean_logit, 4)};
}

// With a frozen head the backward is the kept direction times a number a row.
class FrozenHeadLogprobs : public torch::autograd::Function<FrozenHeadLogprobs> {
 public:
  static variable_list forward(AutogradContext* ctx, const Variable& hidden, const Head& head,
                               const at::Tensor& targets, const LogprobOptions& options) {
    const HeadTiles tiles(hidden, head, options.temperature);
    const auto pass = forward_pass(tiles, targets, options, Keep::direction);
    auto outputs = row_outputs(pass, targets, tiles, options);
    ctx->save_for_backward({pass.direction.to(hidden.scalar_type())});
    ctx->mark_non_differentiable({outputs.begin() + 1, outputs.end()});
    ctx->set_materialize_grads(false);
    return outputs;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto direction = ctx->get_saved_variables()[0];
    at::Tensor hidden;
    if (grads[0].defined()) {
      hidden = direction * grads[0].unsqueeze(1).to(direction.scalar_type());
    }
    return {hidden, {}, {}, {}};
  }
};

// The general form: logits are met again in the backward, kept or recomputed.
class TrainedHeadLogprobs : public torch::autograd::Function<TrainedHeadLogprobs> {
 public:
  static variable_list forward(AutogradContext* ctx, const Variable& hidden, const Variable& weight,
                               const std::optional<Variable>& maybe_bias, const at::Tensor& targets,
                               double logit_scale, double softcap, const LogprobOptions& options) {
    const auto bias = maybe_bias.value_or(at::Tensor());
    const HeadTiles tiles(hidden, {weight, bias, logit_scale, softcap}, options.temperature);
    const int64_t bytes =
        tiles.rows() * tiles.vocab() * static_cast<int64_t>(tiles.options().dtype().itemsize());
    const auto pass = forward_pass(
        tiles, targets, options, bytes <= options.keep_logits_bytes ? Keep::logits : Keep::nothing);
    auto outputs = row_outputs(pass, targets, tiles, options);
    ctx->save_for_backward({hidden, weight, bias, targets, pass.stats.max, pass.stats.sum,
                            pass.stats.centred, pass.logits});
    ctx->saved_data["logit_scale"] = logit_scale;
    ctx->saved_data["softcap"] = softcap;
    ctx->saved_data["temperature"] = options.temperature;
    ctx->saved_data["chunk_rows"] = options.chunk_rows;
    const auto first_constant = outputs.begin() + (options.entropy_grad ? 2 : 1);
    ctx->mark_non_differentiable({first_constant, outputs.end()});
    ctx->set_materialize_grads(false);
    return outputs;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const auto& targets = saved[3];
    const Head head{saved[1], saved[2], ctx->saved_data["logit_scale"].toDouble(),
                    ctx->saved_data["softcap"].toDouble()};
    LogprobOptions options;
    options.temperature = ctx->saved_data["temperature"].toDouble();
    options.chunk_rows = ctx->saved_data["chunk_rows"].toInt();
    const HeadTiles tiles(saved[0], head, options.temperature);
    RowStats stats;
    stats.max = saved[4];
    stats.sum = saved[5];
    stats.centred = saved[6];
    HeadGradients gradients(tiles, head.weight,
                            {.hidden = ctx->needs_input_grad(0),
                             .weight = ctx->needs_input_grad(1),
                             .bias = head.bias.defined() && ctx->needs_input_grad(2)});
    backward_pass(tiles, targets, stats, row_gradient(grads, stats), saved[7], options, gradients);
    variable_list out(7);
    out[0] = narrowed(gradients.hidden, saved[0]);
    out[1] = weight_gradient(saved[1], narrowed(gradients.weight, saved[1]));
    out[2] = narrowed(gradients.bias, saved[2]);
    return out;
  }

 private:
  // d log p_t / dz_v = 1[v = t] − p_v,   dH / dz_v = −p_v (log p_v + H).
  static RowGradient row_gradient(const variable_list& grads, const RowStats& stats) {
    const auto zero = at::zeros_like(stats.max);
    const auto logprob = grads[0].defined() ? grads[0].to(at::kDouble).contiguous() : zero;
    if (!grads[1].defined()) {
      return {logprob, -logprob, {}, {}};
    }
    const auto entropy = grads[1].to(at::kDouble).contiguous();
    return {logprob, -logprob - entropy * stats.entropy(), -entropy, {}};
  }

  static void backward_pass(const HeadTiles& tiles, const at::Tensor& targets,
                            const RowStats& stats, const RowGradient& gradient,
                            const at::Tensor& kept, const LogprobOptions& options,
                            HeadGradients& gradients) {
    const int64_t chunk = head_chunk_rows(tiles, options);
    const int64_t width = tiles.tile_width(std::min(chunk, tiles.rows()));
    const auto buffer = at::empty({std::min(chunk, tiles.rows()) * std::min(width, tiles.vocab())},
                                  tiles.options());
    for_pieces(tiles.vocab(), width, [&](int64_t first, int64_t columns) {
      const auto weight = tiles.weight(first, columns);
      for_pieces(tiles.rows(), chunk, [&](int64_t row, int64_t count) {
        const auto dx = buffer.narrow(0, 0, count * columns).view({count, columns});
        auto z = dx;
        if (kept.defined()) {
          z = kept.narrow(0, row, count).narrow(1, first, columns);
        } else {
          tiles.logits(tiles.hidden(row, count), weight, first, z);
        }
        softmax_gradient(z, first, targets.narrow(0, row, count), stats.narrow(row, count),
                         gradient.narrow(row, count), tiles.transform(), dx);
        gradients.add(dx, row, first, weight);
      });
    });
  }

  static at::Tensor narrowed(const at::Tensor& gradient, const at::Tensor& like) {
    return gradient.defined() ? gradient.to(like.scalar_type()) : gradient;
  }
};

bool wants_grad(const at::Tensor& t) { return t.defined() && t.requires_grad(); }

}  // namespace

RowLogprobs linear_logprobs(const at::Tensor& hidden, const Head& head, const at::Tensor& targets,
                            const LogprobOptions& options) {
  check_head_arguments(hidden, head, targets, options);
  const auto places = targets.contiguous();
  const bool head_trains = wants_grad(head.weight) || wants_grad(head.bias);
  if (!at::GradMode::is_enabled() || !(wants_grad(hidden) || head_trains)) {
    const at::NoGradGuard no_grad;
    const HeadTiles tiles(hidden, head, options.temperature);
    return named(
        row_outputs(forward_pass(tiles, places, options, Keep::nothing), places, tiles, options),
        options);
  }
  if (!head_trains && !(options.entropy && options.entropy_grad)) {
    return named(FrozenHeadLogprobs::apply(hidden, head, places, options), options);
  }
  return named(TrainedHeadLogprobs::apply(hidden, head.weight, as_optional(head.bias), places,
                                          head.logit_scale, head.softcap, options),
               options);
}

}  // namespace rlhf
