// AOT: alignment by optimal transport. The distribution of the policy's margins is to dominate the
// reference's at every quantile (first-order stochastic dominance); in one dimension optimal
// transport is sorting.
//
//   aot            d = sort(logπ+ − logπ-) − sort(logπ_ref+ − logπ_ref-)
//   aot_unpaired   d = sort(D+) − sort(D-)
//   L_i = −(1 − ε) log σ(βd_i) − ε log σ(−βd_i)
//
//   | symbol | parameter       | range    |
//   |--------|-----------------|----------|
//   | β      | beta            | above 0  |
//   | ε      | label_smoothing | [0, 0.5) |
//
// Source: Melnyk et al. (arXiv 2406.05882), the paired and the unpaired form, with the logistic
// loss.
//
// Worked case: β = 1, ε = 0, two pairs.
//   aot, margins ln 6 and 0 under the policy, 0 and ln 2 under the reference: sorted (0, ln 6) and
//   (0, ln 2), so d = (0, ln 3) and L = (ln 2, ln(4/3)).
//   aot_unpaired, D+ = (ln 3, 0) and D- = (0, −ln 2): sorted (0, ln 3) and (−ln 2, 0), so
//   d = (ln 2, ln 3) and L = (ln(3/2), ln(4/3)).
//
// Departures: sorting is exact, as in TRL; the paper also offers a soft sort. TRL sorts each
// device's micro-batch: it is the step here, so the cut into micro-batches does not show.
#pragma once

#include <ATen/ATen.h>

#include <tuple>

#include "rlhf/losses/sigmoid.h"

namespace rlhf {

/// Margins (B): logπ+ − logπ- and logπ_ref+ − logπ_ref-, of the whole step. Returns (B), by rank.
inline at::Tensor aot_loss(const at::Tensor& margin, const at::Tensor& ref_margin, double beta,
                           double label_smoothing) {
  const auto delta = std::get<0>(margin.sort()) - std::get<0>(ref_margin.sort());
  return sigmoid_loss(delta, beta, label_smoothing);
}

/// Log-ratios (B) of the whole step. Returns (B), by rank.
inline at::Tensor aot_unpaired_loss(const at::Tensor& chosen, const at::Tensor& rejected,
                                    double beta, double label_smoothing) {
  const auto delta = std::get<0>(chosen.sort()) - std::get<0>(rejected.sort());
  return sigmoid_loss(delta, beta, label_smoothing);
}

}  // namespace rlhf
