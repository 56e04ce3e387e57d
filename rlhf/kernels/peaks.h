// What this machine gives at most, measured on the threads torch has: the bounds that speed is judged by,
// and what a choice between number types rests on.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace rlhf {

/// Least seconds of several calls, one more before them as a warm-up: a machine's peak is what it
/// reaches undisturbed.
double best_seconds(int calls, const std::function<void()>& call);

/// GFLOP/s of a square product: of 1,536 rows, or of half, a quarter or an eighth of them where more
/// would take seconds, as it does in a type that the machine has no instructions for.
double product_peak(at::ScalarType type);

/// GB/s read by one pass over 512 MiB on all threads, and read plus written by a copy of 256 MiB.
struct Bandwidth {
  double read;
  double copy;
};
Bandwidth memory_bandwidth();

}  // namespace rlhf
