// Products of few rows with the matrices of a Llama of 135M. Every call takes another matrix, as the
// layers of a model do: 256 MiB of them, which no cache holds.
#include "rlhf/kernels/thin_product.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "bench/kernels/bench.h"

namespace rlhf::bench {
namespace {

constexpr int64_t kPool = int64_t{1} << 26;

// Chains of up to 1,536 multiply-adds in two orders, 6e-8 each, add up like a walk.
constexpr double kTolerance = 5e-6;

// (matrices, N, K), of memory that all shapes share.
at::Tensor matrices(int64_t columns, int64_t depth) {
  static const at::Tensor pool = at::randn({kPool});
  const int64_t count = kPool / (columns * depth);
  return pool.narrow(0, 0, count * columns * depth).view({count, columns, depth});
}

Call products(const at::Tensor& x, const std::vector<at::Tensor>& weights,
              at::Tensor (*product)(const at::Tensor&, const at::Tensor&)) {
  return [=, next = size_t{0}]() mutable {
    const at::Tensor& weight = weights[next];
    next = (next + 1) % weights.size();
    return Tensors{product(x, weight)};
  };
}

void add_product(int64_t rows, int64_t columns, int64_t depth) {
  add({fmt::format("thin/{}x{}/rows{}", columns, depth, rows),
       floats_moved(static_cast<double>(columns * depth + rows * (columns + depth))), kTolerance,
       [=]() -> Pair {
         const auto x = at::randn({rows, depth});
         const auto weights = matrices(columns, depth).unbind();
         return {products(x, weights, &thin_product),
                 products(x, weights, [](const at::Tensor& a, const at::Tensor& w) {
                   return at::linear(a, w);
                 })};
       }});
}

}  // namespace

void add_thin_products() {
  struct Matrix {
    int64_t columns, depth;  // W (N, K)
  };
  // Queries and output; keys and values; gate and up; down; the head.
  for (const auto& [columns, depth] :
       {Matrix{576, 576}, {192, 576}, {1536, 576}, {576, 1536}, {49152, 576}}) {
    for (const int64_t rows : {1, 4, 16}) add_product(rows, columns, depth);
  }
}

}  // namespace rlhf::bench
