#include "rlhf/math/masked.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

// Values where the mask holds, 0 elsewhere, in double.
at::Tensor kept(const at::Tensor& values, const at::Tensor& mask) {
  check(mask.scalar_type() == at::kBool && mask.sizes() == values.sizes(), "masked",
        "a bool mask ({}) was expected, got {} ({}).", fmt::join(values.sizes(), ", "),
        toString(mask.scalar_type()), fmt::join(mask.sizes(), ", "));
  const auto zero = at::zeros({}, values.options().dtype(at::kDouble));
  return at::where(mask, values.to(at::kDouble), zero);
}

int64_t sequences_in(const at::Tensor& sequence) {
  return sequence.numel() == 0 ? 0 : sequence.max().item<int64_t>() + 1;
}

double divisor(Aggregation aggregation, const StepCounts& counts) {
  switch (aggregation) {
    case Aggregation::token_mean:
      return counts.tokens;
    case Aggregation::sequence_mean:
      return counts.sequences;
    case Aggregation::sequence_constant:
      return counts.sequences * counts.constant;
  }
  fail("aggregation", "a known aggregation was expected.");
}

}  // namespace

at::Tensor masked_sum(const at::Tensor& values, const at::Tensor& mask) {
  return kept(values, mask).sum().to(values.scalar_type());
}

at::Tensor masked_mean(const at::Tensor& values, const at::Tensor& mask) {
  return (kept(values, mask).sum() / mask.sum().clamp_min(1)).to(values.scalar_type());
}

at::Tensor masked_variance(const at::Tensor& values, const at::Tensor& mask) {
  const auto count = mask.sum();
  const auto mean = kept(values, mask).sum() / count.clamp_min(1);
  const auto squares = kept(values.to(at::kDouble) - mean, mask).square();
  return (squares.sum() / (count - 1).clamp_min(1)).to(values.scalar_type());
}

at::Tensor sequence_sums(const at::Tensor& values, const at::Tensor& mask,
                         const at::Tensor& sequence, int64_t sequences) {
  const auto sums = at::zeros({sequences}, values.options().dtype(at::kDouble));
  return sums.index_add(0, sequence, kept(values, mask)).to(values.scalar_type());
}

at::Tensor aggregation_coefficients(Aggregation aggregation, const at::Tensor& mask,
                                    const at::Tensor& sequence, const StepCounts& counts) {
  const auto share = mask.to(at::kDouble);
  if (!mask.any().item<bool>()) {
    return share;
  }
  const double count = divisor(aggregation, counts);
  check(count > 0.0, "aggregation", "a positive count to divide by was expected, got {}.", count);
  if (aggregation != Aggregation::sequence_mean) {
    return share / count;
  }
  const auto lengths = sequence_sums(share, mask, sequence, sequences_in(sequence)).clamp_min(1.0);
  return share / lengths.index_select(0, sequence) / count;
}

at::Tensor aggregate(Aggregation aggregation, const at::Tensor& values, const at::Tensor& mask,
                     const at::Tensor& sequence, const StepCounts& counts) {
  const auto coefficients = aggregation_coefficients(aggregation, mask, sequence, counts);
  return (kept(values, mask) * coefficients).sum().to(values.scalar_type());
}

}  // namespace rlhf
