// What the benchmarks of kernels share. A benchmark is a kernel beside a plain torch expression of
// the same: their results must agree before either is timed, as NAME/kernel and NAME/torch. Letters
// are the legend's (CONTRIBUTING.md).
//
// Counters, both forms credited with what has to be done at least:
//   GFLOP/s  2 a multiply-add     GB/s  every input read once, every result written once
//   share%   of the peak of products or of reading, measured at start on the same threads
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace benchmark {
class State;
}

namespace rlhf::bench {

// Heads of the model whose shapes are measured, a Llama of 135M.
inline constexpr int64_t kHeads = 9;     // H
inline constexpr int64_t kKeyHeads = 3;  // K
inline constexpr int64_t kHeadDim = 64;  // D

/// GFLOP/s of products and GB/s read, as `rlhf env` says; measured at the first call.
struct Peaks {
  double gflops;
  double read_gb;
};
const Peaks& peaks();

/// What a call has to do, in 1e9: the peak it is held against is its bound's.
struct Work {
  enum class Bound { products, memory };
  Bound bound;
  double giga;
};
Work operations(double count);
Work floats_moved(double count);

using Tensors = std::vector<at::Tensor>;
using Call = std::function<Tensors()>;

/// A further figure of the kernel.
struct Figure {
  std::string name;
  std::function<double()> value;
};

struct Pair {
  Call kernel;
  Call torch;
  std::optional<Figure> figure = {};
};

struct Case {
  std::string name;
  Work work;
  double tolerance;              ///< most difference of a result, as a part of its largest value
  std::function<Pair()> set_up;  ///< makes the data: seeded, and gone before the next case begins
};
void add(const Case& one);

/// A function of tensors, of which the first `leaves` get gradients. Added as NAME/forward, without
/// gradients; NAME/backward alone, on a graph that is made once; NAME/both, of the sum: those with
/// work.
struct Differentiable {
  std::string name;
  std::optional<Work> forward, backward, both;
  double tolerance;
  size_t leaves;
  std::function<Tensors()> inputs;
  using Function = std::function<at::Tensor(const Tensors&)>;
  Function kernel, torch;
};
void add(const Differentiable& one);

/// Times a call and sets its counters.
void measure(benchmark::State& state, const Call& call, const Work& work);

/// Whether a check, or anything else, has failed in this process.
bool failed();

void add_attention();
void add_decode_attention();
void add_norms();
void add_rotary();
void add_gated_units();
void add_softmax_rows();
void add_thin_products();
void add_adamw();
void add_head();

}  // namespace rlhf::bench
