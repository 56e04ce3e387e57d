#include "rlhf/kernels/quantise.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/kernels/quantise_simd.h"

namespace rlhf {
namespace {

constexpr int64_t kGrain = 256;  // blocks

bool plain(const at::Tensor& t) { return t.device().is_cpu() && t.is_contiguous(); }

at::Tensor on_device_of(const at::Tensor& like, const float* numbers, int64_t count) {
  return at::tensor(at::ArrayRef<float>(numbers, static_cast<size_t>(count)), at::kFloat)
      .to(like.device());
}

}  // namespace

void check_quantised(const at::Tensor& codes, const at::Tensor& absmax, at::IntArrayRef shape) {
  check(codes.scalar_type() == at::kByte && absmax.scalar_type() == at::kFloat, "quantise",
        "codes in uint8 and factors in fp32 were expected, got {} and {}.",
        toString(codes.scalar_type()), toString(absmax.scalar_type()));
  check(codes.sizes() == shape && absmax.dim() == 1 &&
            absmax.numel() == quantised_blocks(codes.numel()),
        "quantise", "codes of the shape ({}) and a factor for each 256 of them were expected.",
        fmt::join(shape, ", "));
}

namespace reference {

void quantise_blockwise(const DynamicMap& map, const at::Tensor& x, const at::Tensor& codes,
                        const at::Tensor& absmax) {
  const at::NoGradGuard no_grad;
  const int64_t blocks = absmax.numel();
  const auto whole = at::zeros({blocks * kQuantisedBlock}, x.options());
  whole.slice(0, 0, x.numel()).copy_(x.reshape(-1));
  const auto rows = whole.view({blocks, kQuantisedBlock});
  absmax.copy_(rows.abs().amax(/*dim=*/1));
  const auto divisor = at::where(absmax > 0, absmax, at::ones_like(absmax)).unsqueeze(1);
  // Code i: bounds[i − 1] < u ≤ bounds[i].
  const auto nearest = at::bucketize(rows / divisor, on_device_of(x, map.bounds.data(), 255));
  codes.copy_(nearest.view(-1).slice(0, 0, x.numel()).view(codes.sizes()));
}

at::Tensor dequantise_blockwise(const DynamicMap& map, const at::Tensor& codes,
                                const at::Tensor& absmax) {
  const auto values = on_device_of(codes, map.values.data(), 256);
  const auto factors = absmax.repeat_interleave(kQuantisedBlock).slice(0, 0, codes.numel());
  return (values.index_select(0, codes.reshape(-1).to(at::kInt)) * factors).view(codes.sizes());
}

}  // namespace reference

void quantise_blockwise(const DynamicMap& map, const at::Tensor& x, const at::Tensor& codes,
                        const at::Tensor& absmax) {
  check_quantised(codes, absmax, x.sizes());
  check(x.scalar_type() == at::kFloat, "quantise", "numbers in fp32 were expected, got {}.",
        toString(x.scalar_type()));
  if (!plain(x) || !plain(codes) || !plain(absmax))
    return reference::quantise_blockwise(map, x, codes, absmax);
  const float* from = x.const_data_ptr<float>();
  auto* to = codes.data_ptr<uint8_t>();
  auto* factors = absmax.data_ptr<float>();
  const int64_t n = x.numel();
  at::parallel_for(0, absmax.numel(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const int64_t at = b * kQuantisedBlock;
      factors[b] = simd::quantise(map, from + at, to + at, std::min(kQuantisedBlock, n - at));
    }
  });
}

at::Tensor dequantise_blockwise(const DynamicMap& map, const at::Tensor& codes,
                                const at::Tensor& absmax) {
  check_quantised(codes, absmax, codes.sizes());
  if (!plain(codes) || !plain(absmax)) return reference::dequantise_blockwise(map, codes, absmax);
  const auto out = at::empty(codes.sizes(), absmax.options());
  const auto* from = codes.const_data_ptr<uint8_t>();
  const auto* factors = absmax.const_data_ptr<float>();
  auto* to = out.data_ptr<float>();
  const int64_t n = codes.numel();
  at::parallel_for(0, absmax.numel(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const int64_t at = b * kQuantisedBlock;
      simd::dequantise(map, from + at, factors[b], to + at, std::min(kQuantisedBlock, n - at));
    }
  });
  return out;
}

}  // namespace rlhf
