// Mean and variance of numbers that come batch by batch.
//
// Source: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample
// variances (1979).
#pragma once

#include <ATen/core/Tensor.h>

#include "rlhf/core/json.h"

namespace rlhf {

/// Mean and population variance of every number seen, merged batch by batch. Part of a run's
/// state.
struct RunningMoments {
  double mean = 0.0;
  double variance = 0.0;
  double count = 0.0;

  /// Takes the numbers of `values`, of any shape, in; no gradient. No numbers change nothing.
  void update(const at::Tensor& values);
  /// Takes in all that `other` has seen.
  void merge(const RunningMoments& other);

  Json to_json() const;
  /// Error unless `json` came from to_json.
  static RunningMoments from_json(const Json& json);
};

}  // namespace rlhf
