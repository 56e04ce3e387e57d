#include "rlhf/math/sequence_logps.h"

#include "rlhf/core/error.h"
#include "rlhf/math/masked.h"

namespace rlhf {
namespace {

torch::Tensor counts(const torch::Tensor& sequence, int64_t sequences) {
  return torch::bincount(sequence, /*weights=*/{}, /*minlength=*/sequences);
}

// The place of each row within its answer, from 0.
torch::Tensor places(const torch::Tensor& sequence, const torch::Tensor& lengths) {
  const auto order = torch::argsort(sequence, /*stable=*/true);
  const auto starts = lengths.cumsum(0) - lengths;
  const auto rank = torch::arange(sequence.size(0), sequence.options());
  const auto place = rank - starts.index_select(0, sequence.index_select(0, order));
  return torch::empty_like(place).index_copy_(0, order, place);
}

torch::Tensor sums_of(const torch::Tensor& values, const torch::Tensor& sequence,
                      int64_t sequences) {
  return sequence_sums(values, torch::ones_like(sequence, torch::kBool), sequence, sequences);
}

void check_rows(const torch::Tensor& logprobs, const torch::Tensor& sequence) {
  check(logprobs.dim() == 1 && sequence.sizes() == logprobs.sizes() &&
            sequence.scalar_type() == torch::kLong,
        "sequence_logps", "{} int64 numbers of answers were expected, got {} ({}).",
        logprobs.numel(), toString(sequence.scalar_type()), fmt::join(sequence.sizes(), ", "));
}

}  // namespace

SequenceLogps sequence_logps(const torch::Tensor& logprobs, const torch::Tensor& sequence,
                             int64_t sequences) {
  check_rows(logprobs, sequence);
  return {sums_of(logprobs, sequence, sequences),
          counts(sequence, sequences).to(logprobs.scalar_type())};
}

SequenceLogps sequence_logps(const torch::Tensor& logprobs, const torch::Tensor& sequence,
                             const torch::Tensor& common, double ld_alpha) {
  check_rows(logprobs, sequence);
  check(ld_alpha >= 0.0 && ld_alpha <= 1.0, "sequence_logps",
        "an ld_alpha in [0, 1] was expected, got {}.", ld_alpha);
  const auto lengths = counts(sequence, common.size(0));
  const auto beyond = places(sequence, lengths) >= common.index_select(0, sequence);
  const auto weighted = torch::where(beyond, ld_alpha * logprobs, logprobs);
  return {sums_of(weighted, sequence, common.size(0)), lengths.to(logprobs.scalar_type())};
}

}  // namespace rlhf
