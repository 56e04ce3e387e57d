#include "rlhf/kernels/adamw_8bit.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/kernels/adamw_args.h"
#include "rlhf/kernels/quantise.h"
#include "rlhf/kernels/quantise_simd.h"

namespace rlhf {
namespace {

constexpr int64_t kGrain = 256;  // blocks

bool plain(const at::Tensor& t) { return t.device().is_cpu() && t.is_contiguous(); }

void check_arguments(const at::Tensor& parameter, const at::Tensor& gradient,
                     const Moments8bit& moments, const at::Tensor& target) {
  check(gradient.sizes() == parameter.sizes() && target.sizes() == parameter.sizes(),
        "adamw_8bit_step", "gradient and master of the parameter's shape ({}) were expected.",
        fmt::join(parameter.sizes(), ", "));
  check(target.scalar_type() == at::kFloat, "adamw_8bit_step",
        "a parameter or a master in fp32 was expected, got {}.", toString(target.scalar_type()));
  check_quantised(moments.exp_avg, moments.exp_avg_absmax, parameter.sizes());
  check_quantised(moments.exp_avg_sq, moments.exp_avg_sq_absmax, parameter.sizes());
}

/// One block of the gradient in fp32: as it lies, or converted into `buffer`.
template <class T>
const float* block_of(const T* gradient, float* buffer, int64_t n) {
  if constexpr (std::is_same_v<T, float>) {
    return gradient;
  } else {
    std::transform(gradient, gradient + n, buffer, [](T g) { return static_cast<float>(g); });
    return buffer;
  }
}

template <class T>
void fused(const at::Tensor& target, const at::Tensor& gradient, const Moments8bit& moments,
           const AdamWStep& step) {
  const DynamicMap& first = signed_dynamic_map();
  const DynamicMap& second = unsigned_dynamic_map();
  const auto shared = adamw_args<float>(step);
  auto* parameter = target.data_ptr<float>();
  const auto* g = gradient.const_data_ptr<T>();
  auto* m_codes = moments.exp_avg.data_ptr<uint8_t>();
  auto* v_codes = moments.exp_avg_sq.data_ptr<uint8_t>();
  auto* m_absmax = moments.exp_avg_absmax.data_ptr<float>();
  auto* v_absmax = moments.exp_avg_sq_absmax.data_ptr<float>();
  const int64_t numbers = target.numel();
  at::parallel_for(0, quantised_blocks(numbers), kGrain, [&](int64_t begin, int64_t end) {
    alignas(64) float m[kQuantisedBlock];
    alignas(64) float v[kQuantisedBlock];
    alignas(64) float widened[kQuantisedBlock];
    for (int64_t b = begin; b < end; ++b) {
      const int64_t at = b * kQuantisedBlock;
      const int64_t n = std::min(kQuantisedBlock, numbers - at);
      simd::dequantise(first, m_codes + at, m_absmax[b], m, n);
      simd::dequantise(second, v_codes + at, v_absmax[b], v, n);
      auto args = shared;
      args.parameter = parameter + at;
      args.gradient = block_of(g + at, widened, n);
      args.exp_avg = m;
      args.exp_avg_sq = v;
      simd::adamw(args, 0, n);
      m_absmax[b] = simd::quantise(first, m, m_codes + at, n);
      v_absmax[b] = simd::quantise(second, v, v_codes + at, n);
    }
  });
}

void fused_of_type(const at::Tensor& target, const at::Tensor& gradient, const Moments8bit& moments,
                   const AdamWStep& step) {
  switch (gradient.scalar_type()) {
    case at::kBFloat16:
      return fused<at::BFloat16>(target, gradient, moments, step);
    case at::kHalf:
      return fused<at::Half>(target, gradient, moments, step);
    case at::kDouble:
      return fused<double>(target, gradient, moments, step);
    default:
      return fused<float>(target, gradient.to(at::kFloat), moments, step);
  }
}

}  // namespace

namespace reference {

void adamw_8bit_step(const at::Tensor& parameter, const at::Tensor& gradient,
                     const Moments8bit& moments, const AdamWStep& step, const at::Tensor& master) {
  const at::NoGradGuard no_grad;
  const auto m = reference::dequantise_blockwise(signed_dynamic_map(), moments.exp_avg,
                                                 moments.exp_avg_absmax);
  const auto v = reference::dequantise_blockwise(unsigned_dynamic_map(), moments.exp_avg_sq,
                                                 moments.exp_avg_sq_absmax);
  reference::adamw_step(parameter, gradient, m, v, step, master);
  reference::quantise_blockwise(signed_dynamic_map(), m, moments.exp_avg, moments.exp_avg_absmax);
  reference::quantise_blockwise(unsigned_dynamic_map(), v, moments.exp_avg_sq,
                                moments.exp_avg_sq_absmax);
}

}  // namespace reference

void adamw_8bit_step(const at::Tensor& parameter, const at::Tensor& gradient,
                     const Moments8bit& moments, const AdamWStep& step, const at::Tensor& master) {
  const at::NoGradGuard no_grad;
  const auto target = master.defined() ? master : parameter;
  check_arguments(parameter, gradient, moments, target);
  const std::vector<at::Tensor> changed = {target, moments.exp_avg, moments.exp_avg_absmax,
                                           moments.exp_avg_sq, moments.exp_avg_sq_absmax};
  if (!gradient.device().is_cpu() || !std::all_of(changed.begin(), changed.end(), plain)) {
    reference::adamw_8bit_step(parameter, gradient, moments, step, master);
    return;
  }
  fused_of_type(target, gradient.contiguous(), moments, step);
  for (const auto& tensor : changed) tensor.unsafeGetTensorImpl()->bump_version();
  if (master.defined()) parameter.copy_(master);
}

}  // namespace rlhf
