#include "rlhf/train/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "rlhf/core/error.h"
#include "rlhf/kernels/adamw.h"
#include "rlhf/kernels/adamw_8bit.h"
#include "rlhf/kernels/quantise.h"
#include "rlhf/models/arch.h"

namespace rlhf {
namespace {

double root_mean_square(const at::Tensor& x) {
  return x.norm().item<double>() / std::sqrt(static_cast<double>(x.numel()));
}

/// Adafactor's rank-one estimate of 1/sqrt(E[g²]) from row and column means.
at::Tensor factored_rsqrt(const at::Tensor& rows, const at::Tensor& columns) {
  const auto row_factor = (rows / rows.mean(-1, /*keepdim=*/true)).rsqrt().unsqueeze(-1);
  return row_factor * columns.unsqueeze(-2).rsqrt();
}

}  // namespace

bool decays(const std::string& tensor_name, int64_t dimensions) {
  // Every norm weight and bias of the architectures is a vector, and no other tensor is but DoRA's
  // magnitudes.
  return (dimensions >= 2 && !tensor_name.ends_with(".bias")) ||
         tensor_name.ends_with(".lora_magnitude_vector");
}

bool quantises_moments(const std::string& tensor_name, int64_t numbers) {
  constexpr int64_t kFewest = 4096;
  const auto names = [&](const char* module) {
    if (*module == '\0') return false;
    const auto name = std::string(module) + ".weight";
    return tensor_name == name || tensor_name.ends_with("." + name);
  };
  const auto& rows = architectures();
  return numbers >= kFewest && std::none_of(rows.begin(), rows.end(), [&](const auto& row) {
           return names(row.names.embedding) || names(row.names.positions);
         });
}

Optimizer::Optimizer(OptimizerOptions options, std::vector<NamedTensor> tensors)
    : options_(options) {
  const at::NoGradGuard no_grad;
  for (auto& [name, tensor] : tensors) {
    Slot slot{.name = name, .weight = tensor};
    slot.weight_decay = decays(name, tensor.dim()) ? options_.weight_decay : 0.0;
    const auto type = tensor.scalar_type();
    if (type == at::kBFloat16 || type == at::kHalf) slot.master = tensor.detach().to(at::kFloat);
    make_moments(slot);
    slots_.push_back(std::move(slot));
  }
}

void Optimizer::make_moments(Slot& slot) const {
  const auto like = (slot.master.defined() ? slot.master : slot.weight).detach();
  switch (options_.kind) {
    case OptimizerKind::adamw_8bit:
      if (like.scalar_type() == at::kFloat && quantises_moments(slot.name, like.numel())) {
        const int64_t blocks = quantised_blocks(like.numel());
        for (const std::string moment : {"exp_avg", "exp_avg_sq"}) {
          slot.moments[moment] = at::zeros(like.sizes(), like.options().dtype(at::kByte));
          slot.moments[moment + "_absmax"] = at::zeros({blocks}, like.options());
        }
        break;
      }
      [[fallthrough]];
    case OptimizerKind::adamw:
      slot.moments["exp_avg"] = at::zeros_like(like);
      slot.moments["exp_avg_sq"] = at::zeros_like(like);
      break;
    case OptimizerKind::sgd:
      if (options_.momentum != 0.0) slot.moments["momentum"] = at::zeros_like(like);
      break;
    case OptimizerKind::adafactor:
      if (like.dim() >= 2) {
        slot.moments["exp_avg_sq_row"] = at::zeros_like(like.select(-1, 0));
        slot.moments["exp_avg_sq_col"] = at::zeros_like(like.select(-2, 0));
      } else {
        slot.moments["exp_avg_sq"] = at::zeros_like(like);
      }
      break;
  }
}

double Optimizer::gradient_norm() const {
  double squares = 0.0;
  for (const auto& slot : slots_) {
    if (slot.weight.grad().defined()) squares += sum_of_squares(slot.weight.grad());
  }
  return std::sqrt(squares);
}

void Optimizer::step(double learning_rate, double gradient_scale) {
  const at::NoGradGuard no_grad;
  ++steps_;
  for (auto& slot : slots_) {
    const auto gradient = slot.weight.grad();
    if (!gradient.defined()) continue;
    if (options_.kind == OptimizerKind::adamw || options_.kind == OptimizerKind::adamw_8bit) {
      update_adamw(slot, gradient, learning_rate, gradient_scale);
    } else {
      const auto scaled =
          gradient.to((slot.master.defined() ? slot.master : slot.weight).scalar_type()) *
          gradient_scale;
      options_.kind == OptimizerKind::sgd ? update_sgd(slot, scaled, learning_rate)
                                          : update_adafactor(slot, scaled, learning_rate);
      if (slot.master.defined()) slot.weight.copy_(slot.master);
    }
    slot.weight.mutable_grad() = at::Tensor();
  }
}

void Optimizer::update_adamw(Slot& slot, const at::Tensor& gradient, double learning_rate,
                             double scale) const {
  const double t = static_cast<double>(steps_);
  const AdamWStep step{.lr = learning_rate,
                       .beta1 = options_.beta1,
                       .beta2 = options_.beta2,
                       .eps = options_.epsilon,
                       .weight_decay = slot.weight_decay,
                       .bias_correction1 = 1.0 - std::pow(options_.beta1, t),
                       .bias_correction2 = 1.0 - std::pow(options_.beta2, t),
                       .grad_scale = scale};
  const auto& moments = slot.moments;
  if (moments.contains("exp_avg_absmax")) {
    adamw_8bit_step(slot.weight, gradient,
                    {.exp_avg = moments.at("exp_avg"),
                     .exp_avg_absmax = moments.at("exp_avg_absmax"),
                     .exp_avg_sq = moments.at("exp_avg_sq"),
                     .exp_avg_sq_absmax = moments.at("exp_avg_sq_absmax")},
                    step, slot.master);
  } else {
    adamw_step(slot.weight, gradient, moments.at("exp_avg"), moments.at("exp_avg_sq"), step,
               slot.master);
  }
}

void Optimizer::update_sgd(Slot& slot, at::Tensor gradient, double learning_rate) const {
  auto weight = slot.master.defined() ? slot.master : slot.weight.detach();
  if (slot.weight_decay != 0.0) gradient = gradient.add(weight, slot.weight_decay);
  if (options_.momentum != 0.0) {
    // torch's first step sets the buffer to the gradient whatever the dampening.
    auto& buffer = slot.moments.at("momentum");
    const double dampening = steps_ == 1 ? 0.0 : options_.dampening;
    buffer.mul_(options_.momentum).add_(gradient, 1.0 - dampening);
    gradient = options_.nesterov ? gradient.add(buffer, options_.momentum) : buffer;
  }
  weight.add_(gradient, -learning_rate);
}

void Optimizer::update_adafactor(Slot& slot, const at::Tensor& gradient,
                                 double learning_rate) const {
  auto weight = slot.master.defined() ? slot.master : slot.weight.detach();
  const double beta = 1.0 - std::pow(static_cast<double>(steps_), options_.decay_rate);
  auto squares = gradient * gradient + options_.adafactor_epsilon;
  at::Tensor update;
  if (weight.dim() >= 2) {
    auto& rows = slot.moments.at("exp_avg_sq_row").mul_(beta).add_(squares.mean(-1), 1.0 - beta);
    auto& columns = slot.moments.at("exp_avg_sq_col").mul_(beta).add_(squares.mean(-2), 1.0 - beta);
    update = factored_rsqrt(rows, columns).mul_(gradient);
  } else {
    update =
        slot.moments.at("exp_avg_sq").mul_(beta).add_(squares, 1.0 - beta).rsqrt().mul_(gradient);
  }
  update.mul_(learning_rate / std::max(1.0, root_mean_square(update) / options_.clip_threshold));
  if (slot.weight_decay != 0.0) weight.mul_(1.0 - slot.weight_decay * learning_rate);
  weight.sub_(update);
}

std::map<std::string, at::Tensor> Optimizer::state() const {
  std::map<std::string, at::Tensor> state;
  for (const auto& slot : slots_) {
    if (slot.master.defined()) state["master." + slot.name] = slot.master;
    for (const auto& [moment, tensor] : slot.moments) state[moment + "." + slot.name] = tensor;
  }
  return state;
}

void Optimizer::set_state(const std::map<std::string, at::Tensor>& state, int64_t steps) {
  const at::NoGradGuard no_grad;
  size_t used = 0;
  const auto restore = [&](const std::string& name, at::Tensor& into) {
    const auto found = state.find(name);
    check(found != state.end(), "Optimizer", "the checkpoint has no {}.", name);
    check(
        found->second.sizes() == into.sizes() && found->second.scalar_type() == into.scalar_type(),
        "Optimizer", "{} has the wrong shape or type in the checkpoint.", name);
    into.copy_(found->second);
    ++used;
  };
  for (auto& slot : slots_) {
    if (slot.master.defined()) {
      restore("master." + slot.name, slot.master);
      slot.weight.copy_(slot.master);
    }
    for (auto& [moment, tensor] : slot.moments) restore(moment + "." + slot.name, tensor);
  }
  check(used == state.size(), "Optimizer",
        "the checkpoint holds {} tensors of state, {} were expected.", state.size(), used);
  steps_ = steps;
}

void Optimizer::follow_weights() {
  const at::NoGradGuard no_grad;
  for (auto& slot : slots_) {
    if (slot.master.defined()) slot.master.copy_(slot.weight);
  }
}

uint64_t Optimizer::state_bytes() const {
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : state()) bytes += tensor.nbytes();
  return bytes;
}

}  // namespace rlhf
