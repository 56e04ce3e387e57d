#include "rlhf/math/sequence_logps.h"

#include <ATen/ATen.h>

#include "rlhf/core/error.h"
#include "rlhf/math/masked.h"

namespace rlhf {
namespace {

at::Tensor counts(const at::Tensor& sequence, int64_t sequences) {
  return at::bincount(sequence, /*weights=*/{}, /*minlength=*/sequences);
}

// The place of each row within its answer, from 0.
at::Tensor places(const at::Tensor& sequence, const at::Tensor& lengths) {
  const auto order = at::argsort(sequence, /*stable=*/true);
  const auto starts = lengths.cumsum(0) - lengths;
  const auto rank = at::arange(sequence.size(0), sequence.options());
  const auto place = rank - starts.index_select(0, sequence.index_select(0, order));
  return at::empty_like(place).index_copy_(0, order, place);
}

at::Tensor sums_of(const at::Tensor& values, const at::Tensor& sequence, int64_t sequences) {
  return sequence_sums(values, at::ones_like(sequence, at::kBool), sequence, sequences);
}

void check_rows(const at::Tensor& logprobs, const at::Tensor& sequence) {
  check(logprobs.dim() == 1 && sequence.sizes() == logprobs.sizes() &&
            sequence.scalar_type() == at::kLong,
        "sequence_logps", "{} int64 numbers of answers were expected, got {} ({}).",
        logprobs.numel(), toString(sequence.scalar_type()), fmt::join(sequence.sizes(), ", "));
}

}  // namespace

SequenceLogps sequence_logps(const at::Tensor& logprobs, const at::Tensor& sequence,
                             int64_t sequences) {
  check_rows(logprobs, sequence);
  return {sums_of(logprobs, sequence, sequences),
          counts(sequence, sequences).to(logprobs.scalar_type())};
}

SequenceLogps sequence_logps(const at::Tensor& logprobs, const at::Tensor& sequence,
                             const at::Tensor& common, double ld_alpha) {
  check_rows(logprobs, sequence);
  check(ld_alpha >= 0.0 && ld_alpha <= 1.0, "sequence_logps",
        "an ld_alpha in [0, 1] was expected, got {}.", ld_alpha);
  const auto lengths = counts(sequence, common.size(0));
  const auto beyond = places(sequence, lengths) >= common.index_select(0, sequence);
  const auto weighted = at::where(beyond, ld_alpha * logprobs, logprobs);
  return {sums_of(weighted, sequence, common.size(0)), lengths.to(logprobs.scalar_type())};
}

}  // namespace rlhf
