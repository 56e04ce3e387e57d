#include "rlhf/nn/lora.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "rlhf/core/error.h"
#include "rlhf/core/random.h"
#include "rlhf/nn/layers.h"

namespace rlhf {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

constexpr int64_t kNormRows = 512;      // outputs whose norm is taken at a time
constexpr double kDropSteps = 65536.0;  // a 16-bit draw decides for an element

template <class T>
void fill_mask(const at::Tensor& mask, const Lora& lora, const DropoutKey& key) {
  const int64_t width = mask.size(1);
  T* values = mask.data_ptr<T>();
  const auto rows = key.rows.defined() ? key.rows.cpu().contiguous() : at::Tensor();
  const int64_t* place = rows.defined() ? rows.const_data_ptr<int64_t>() : nullptr;
  const double threshold = std::round(lora.dropout * kDropSteps);
  const auto below = static_cast<uint64_t>(threshold);
  const auto kept = static_cast<T>(kDropSteps / (kDropSteps - threshold));
  at::parallel_for(0, mask.size(0), /*grain_size=*/16, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t token = key.first_token + (place == nullptr ? t : place[t]);
      Random random(key.seed,
                    {kRandomDropout, key.step, lora.stream, static_cast<uint64_t>(token)});
      T* row = values + t * width;
      for (int64_t i = 0; i < width; i += 4) {
        uint64_t bits = random.next64();
        for (int64_t j = i; j < std::min(i + 4, width); ++j, bits >>= 16) {
          row[j] = (bits & 0xFFFF) >= below ? kept : T(0);
        }
      }
    }
  });
}

/// What one call has beside its differentiable tensors.
struct Call {
  Linear frozen;
  Lora lora;
  std::optional<DropoutKey> dropout;

  /// (T, in) in the adapter's type: what x is multiplied with; undefined without dropout.
  at::Tensor mask(const at::Tensor& x) const {
    if (!dropout) return {};
    return dropout_mask(x.size(0), lora, *dropout, x.options().dtype(lora.a.scalar_type()));
  }
  /// The adapter's input.
  at::Tensor input(const at::Tensor& x, const at::Tensor& mask) const {
    const auto wide = x.to(lora.a.scalar_type());
    return mask.defined() ? wide * mask : wide;
  }
};

struct KeptCall final : torch::CustomClassHolder {
  explicit KeptCall(Call kept) : call(std::move(kept)) {}
  Call call;
};

struct Forward {
  at::Tensor y;         // (T, out)
  at::Tensor z;         // A x, (T, r)
  at::Tensor factor;    // c, (out); DoRA only
  at::Tensor norm;      // (out); DoRA only
  at::Tensor directed;  // W x + s·B A x (x dropped with dropout), (T, out); DoRA only
};

Forward forward_pass(const Call& call, const at::Tensor& x) {
  const auto& lora = call.lora;
  const auto type = lora.a.scalar_type();
  const auto input = call.input(x, call.mask(x));
  const auto y = linear(call.frozen, x);
  Forward out;
  out.z = at::mm(input, lora.a.t());
  if (!lora.magnitude.defined()) {
    out.y = y.to(type).addmm_(out.z, lora.b.t(), /*beta=*/1, /*alpha=*/lora.scale).to(y.dtype());
    return out;
  }
  out.norm = lora_weight_norm(call.frozen, lora);
  out.factor = lora.magnitude / out.norm;
  const auto added = at::mm(out.z, lora.b.t()).mul_(lora.scale);
  if (call.dropout) {
    out.directed = linear(call.frozen, input.to(x.scalar_type()), /*with_bias=*/false);
    out.directed = out.directed.to(type) + added;
  } else {
    const auto& bias = call.frozen.bias;
    out.directed = bias.defined() ? (y - bias).to(type) + added : y.to(type) + added;
  }
  // In this order y is the frozen layer's output itself where c = 1 and B = 0.
  out.y = added.add_(y.to(type)).addcmul_(out.directed, out.factor - 1).to(y.dtype());
  return out;
}

class LoraLinear : public torch::autograd::Function<LoraLinear> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& a,
                          const Variable& b, const std::optional<Variable>& magnitude,
                          const Call& call) {
    const auto pass = forward_pass(call, x);
    ctx->save_for_backward(
        {x, a, b, magnitude.value_or(at::Tensor()), pass.z, pass.factor, pass.norm, pass.directed});
    Call kept = call;
    kept.lora.a = kept.lora.b = kept.lora.magnitude = at::Tensor();  // saved as variables
    ctx->saved_data["call"] = at::IValue::make_capsule(c10::make_intrusive<KeptCall>(kept));
    return pass.y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const auto& x = saved[0];
    auto call =
        c10::static_intrusive_pointer_cast<KeptCall>(ctx->saved_data["call"].toCapsule())->call;
    auto& lora = call.lora;
    lora.a = saved[1];
    lora.b = saved[2];
    const auto& z = saved[4];
    const auto& factor = saved[5];
    const auto grad = grads[0].to(lora.a.scalar_type());
    const auto added = factor.defined() ? grad * factor : grad;  // of s·B A x
    const auto low = at::mm(added, lora.b).mul_(lora.scale);     // of A x, (T, r)
    const auto mask = call.mask(x);
    at::Tensor dx, da, db, dm;
    if (ctx->needs_input_grad(0)) {
      dx = input_gradient(call, factor.defined(), grads[0], added, low, mask);
    }
    if (ctx->needs_input_grad(1)) da = at::mm(low.t(), call.input(x, mask));
    if (ctx->needs_input_grad(2)) db = at::mm(added.t(), z).mul_(lora.scale);
    if (factor.defined() && ctx->needs_input_grad(3)) dm = (grad * saved[7]).sum(0).div_(saved[6]);
    return {dx, da, db, dm, {}};
  }

 private:
  static at::Tensor input_gradient(const Call& call, bool dora, const at::Tensor& grad,
                                   const at::Tensor& added, const at::Tensor& low,
                                   const at::Tensor& mask) {
    const auto weight = call.frozen.matrix();
    const auto narrow = added.to(grad.scalar_type());
    if (!mask.defined()) {
      const auto dx = at::mm(narrow, weight);
      return dx.to(low.scalar_type()).addmm_(low, call.lora.a).to(grad.scalar_type());
    }
    // Through the dropped input: its part of A x, for DoRA also of W x.
    auto dropped = at::mm(low, call.lora.a);
    if (dora) dropped += at::mm(narrow - grad, weight).to(dropped.scalar_type());
    return at::mm(grad, weight).add_(dropped.mul_(mask).to(grad.scalar_type()));
  }
};

Call make_call(const Linear& frozen, const Lora& lora, const DropoutKey* dropout) {
  check(!frozen.weight.requires_grad() && !(frozen.bias.defined() && frozen.bias.requires_grad()),
        "lora_linear", "a frozen layer was expected, its weights require a gradient.");
  Call call{.frozen = frozen, .lora = lora, .dropout = std::nullopt};
  call.frozen.lora = nullptr;
  if (dropout != nullptr && lora.dropout > 0.0) call.dropout = *dropout;
  return call;
}

}  // namespace

double lora_scale(double alpha, int64_t r, bool rslora) {
  const auto rank = static_cast<double>(r);
  return alpha / (rslora ? std::sqrt(rank) : rank);
}

at::Tensor initial_lora_a(int64_t r, int64_t in, uint64_t seed, uint64_t stream) {
  const auto a = at::empty({r, in}, at::kFloat);
  const double bound = 1.0 / std::sqrt(static_cast<double>(in));
  Random random(seed, {kRandomInit, stream});
  float* values = a.data_ptr<float>();
  for (int64_t i = 0; i < a.numel(); ++i) {
    values[i] = static_cast<float>(bound * (2.0 * random.uniform() - 1.0));
  }
  return a;
}

at::Tensor dropout_mask(int64_t tokens, const Lora& lora, const DropoutKey& key,
                        const at::TensorOptions& options) {
  const auto type = c10::typeMetaToScalarType(options.dtype());
  const auto mask = at::empty({tokens, lora.a.size(1)}, type);
  if (type == at::kDouble) {
    fill_mask<double>(mask, lora, key);
  } else {
    check(type == at::kFloat, "dropout_mask", "fp32 or fp64 was expected.");
    fill_mask<float>(mask, lora, key);
  }
  return mask.to(options.device());
}

at::Tensor lora_weight_norm(const Linear& frozen, const Lora& lora) {
  const at::NoGradGuard no_grad;
  const auto weight = frozen.matrix();
  std::vector<at::Tensor> norms;
  for (int64_t row = 0; row < weight.size(0); row += kNormRows) {
    const int64_t rows = std::min(kNormRows, weight.size(0) - row);
    const auto sum = at::addmm(weight.narrow(0, row, rows).to(lora.a.scalar_type()),
                               lora.b.narrow(0, row, rows), lora.a, /*beta=*/1,
                               /*alpha=*/lora.scale);
    norms.push_back(at::linalg_vector_norm(sum, /*ord=*/2, /*dim=*/{1}));
  }
  return at::cat(norms);
}

at::Tensor merged_weight(const Linear& frozen, const Lora& lora) {
  const at::NoGradGuard no_grad;
  const auto type = frozen.weight.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  auto sum = at::addmm(frozen.matrix().to(type), lora.b.to(type), lora.a.to(type), /*beta=*/1,
                       /*alpha=*/lora.scale);
  if (lora.magnitude.defined()) {
    const auto norm = at::linalg_vector_norm(sum, /*ord=*/2, /*dim=*/{1});
    sum.mul_((lora.magnitude.to(type) / norm).unsqueeze(1));
  }
  return frozen.transposed ? sum.t().contiguous() : sum;
}

at::Tensor lora_linear(const Linear& frozen, const Lora& lora, const at::Tensor& x,
                       const DropoutKey* dropout) {
  const auto call = make_call(frozen, lora, dropout);
  if (!at::GradMode::is_enabled()) return forward_pass(call, x).y;
  return LoraLinear::apply(x, lora.a, lora.b,
                           lora.magnitude.defined() ? std::optional(lora.magnitude) : std::nullopt,
                           call);
}

namespace reference {

at::Tensor lora_linear(const Linear& frozen, const Lora& lora, const at::Tensor& x,
                       const DropoutKey* dropout) {
  const auto call = make_call(frozen, lora, dropout);
  auto input = x;
  if (call.dropout) input = x * call.mask(x);
  const auto added = input.matmul(lora.a.t()).matmul(lora.b.t()) * lora.scale;
  const auto y = linear(call.frozen, x);
  if (!lora.magnitude.defined()) return y + added;
  const auto factor = lora.magnitude / lora_weight_norm(frozen, lora);
  const auto directed = linear(call.frozen, input, /*with_bias=*/false);
  return y + (factor - 1) * directed + factor * added;
}

}  // namespace reference
}  // namespace rlhf
