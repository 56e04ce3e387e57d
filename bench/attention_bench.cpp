// Attention over packed segments, forward and backward, against the stock CPU flash kernel called
// segment by segment. Compare pairs with --benchmark_enable_random_interleaving=true
// --benchmark_repetitions=9. Operations are counted as 2 a multiply-add over visible pairs of
// tokens only, 2 products forward and 5 backward; for a shared prompt both forms are credited with
// what the shared form needs.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <malloc.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>
#include <vector>

#include "rlhf/kernels/attention.h"

namespace {

struct Workload {
  const char* name;
  rlhf::SegmentTable segments;
  int64_t query_heads, key_heads, width;
  rlhf::AttentionOptions options;

  int64_t tokens() const { return segments.back().begin + segments.back().length; }

  double operations() const {
    double pairs = 0;
    for (const rlhf::Segment& s : segments) {
      const auto n = static_cast<double>(s.length);
      pairs += n * (n + 1) / 2;
      if (s.prefix >= 0)
        pairs += n * static_cast<double>(segments[static_cast<size_t>(s.prefix)].length);
    }
    return pairs * static_cast<double>(query_heads * width) * 2 * 7;
  }
};

void append(rlhf::SegmentTable& segments, int64_t length, int64_t prefix = -1) {
  const int64_t begin = segments.empty() ? 0 : segments.back().begin + segments.back().length;
  segments.push_back({begin, length, prefix});
}

std::vector<Workload> workloads() {
  std::vector<Workload> result;
  const auto add = [&](const char* name, rlhf::SegmentTable segments, double softcap = 0) {
    result.push_back({name, std::move(segments), 9, 3, 64, {0.125, /*window=*/0, softcap}});
  };
  rlhf::SegmentTable mixed, even, shared, lone;
  // 64 lengths of 60 to 260 that sum to 10,231.
  std::mt19937 random(7);
  int64_t left = 10231;
  for (int64_t rows = 64; rows > 0; --rows) {
    const int64_t even_share = left / rows;
    const int64_t spread = static_cast<int64_t>(random() % 201) - 100;
    const int64_t length = rows == 1 ? left : std::clamp<int64_t>(even_share + spread, 60, 260);
    append(mixed, length);
    left -= length;
  }
  for (int64_t row = 0; row < 64; ++row) append(even, 150);
  append(shared, 1000);
  for (int64_t answer = 0; answer < 16; ++answer) append(shared, 100, /*prefix=*/0);
  append(lone, 4096);
  add("mixed64", mixed);
  add("even150", even);
  add("shared1000x16", shared);
  add("lone4096", lone);
  add("softcap64", mixed, 50.0);
  return result;
}

struct Operands {
  at::Tensor q, k, v, grad_out;
};

Operands make_operands(const Workload& w) {
  at::manual_seed(1);
  return {at::randn({w.tokens(), w.query_heads, w.width}),
          at::randn({w.tokens(), w.key_heads, w.width}),
          at::randn({w.tokens(), w.key_heads, w.width}),
          at::randn({w.tokens(), w.query_heads, w.width})};
}

std::vector<at::Tensor> run_packed(const Operands& x, const Workload& w) {
  const auto q = x.q.detach().requires_grad_(), k = x.k.detach().requires_grad_(),
             v = x.v.detach().requires_grad_();
  const auto out = rlhf::packed_attention(q, k, v, w.segments, w.options);
  auto grads = torch::autograd::grad({out}, {q, k, v}, {x.grad_out});
  return {out, grads[0], grads[1], grads[2]};
}

// The stock kernel on each segment; an answer repeats its prompt and leaves the prompt's own
// outputs unused.
std::vector<at::Tensor> run_stock(const Operands& x, const Workload& w) {
  const auto out = at::empty_like(x.q), grad_q = at::zeros_like(x.q), grad_k = at::zeros_like(x.k),
             grad_v = at::zeros_like(x.v);
  const int64_t group = w.query_heads / w.key_heads;
  for (const rlhf::Segment& s : w.segments) {
    const rlhf::Segment* prefix =
        s.prefix < 0 ? nullptr : &w.segments[static_cast<size_t>(s.prefix)];
    const int64_t before = prefix == nullptr ? 0 : prefix->length;
    const auto rows = [&](const at::Tensor& tensor) {
      const auto own = tensor.slice(0, s.begin, s.begin + s.length);
      return prefix == nullptr
                 ? own
                 : at::cat({tensor.slice(0, prefix->begin, prefix->begin + before), own});
    };
    const auto heads_first = [&](const at::Tensor& tensor) {
      return rows(tensor).transpose(0, 1).unsqueeze(0);
    };
    const auto q = heads_first(x.q), k = heads_first(x.k).repeat_interleave(group, 1),
               v = heads_first(x.v).repeat_interleave(group, 1);
    auto grad = heads_first(x.grad_out);
    if (before > 0) grad.slice(2, 0, before).zero_();
    const auto [o, lse] = at::_scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, /*is_causal=*/true, std::nullopt, w.options.scale);
    const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        grad, q, k, v, o, lse, 0.0, /*is_causal=*/true, std::nullopt, w.options.scale);
    const auto add = [&](const at::Tensor& to, const at::Tensor& from, int64_t heads) {
      const auto tokens = from.squeeze(0).unflatten(0, {heads, -1}).sum(1).transpose(0, 1);
      to.slice(0, s.begin, s.begin + s.length).add_(tokens.slice(0, before));
      if (before > 0)
        to.slice(0, prefix->begin, prefix->begin + before).add_(tokens.slice(0, 0, before));
    };
    out.slice(0, s.begin, s.begin + s.length).copy_(o.squeeze(0).transpose(0, 1).slice(0, before));
    add(grad_q, dq, w.query_heads);
    add(grad_k, dk, w.key_heads);
    add(grad_v, dv, w.key_heads);
  }
  return {out, grad_q, grad_k, grad_v};
}

void check_equal(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    const double far = (a[i] - b[i]).abs().max().item<double>() / b[i].abs().max().item<double>();
    if (!(far <= 2e-5)) throw std::runtime_error(fmt::format("result {} differs by {}", i, far));
  }
}

void report(benchmark::State& state, const Workload& w) {
  state.counters["GFLOP/s"] = benchmark::Counter(
      w.operations() * 1e-9 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  // As the program does: without these every large tensor is paid for in fresh pages.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 2000 << 20);
  static const auto all = workloads();
  for (const Workload& w : all) {
    benchmark::RegisterBenchmark(fmt::format("packed/{}", w.name).c_str(),
                                 [&w](benchmark::State& state) {
                                   const auto x = make_operands(w);
                                   for (auto _ : state) benchmark::DoNotOptimize(run_packed(x, w));
                                   report(state, w);
                                 })
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
    if (w.options.softcap > 0) continue;
    benchmark::RegisterBenchmark(fmt::format("stock/{}", w.name).c_str(),
                                 [&w](benchmark::State& state) {
                                   const auto x = make_operands(w);
                                   check_equal(run_packed(x, w), run_stock(x, w));
                                   for (auto _ : state) benchmark::DoNotOptimize(run_stock(x, w));
                                   report(state, w);
                                 })
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  }
  // One square product, the machine's peak while all this ran.
  benchmark::RegisterBenchmark(
      "peak/2048",
      [](benchmark::State& state) {
        const auto a = at::randn({2048, 2048}), b = at::randn({2048, 2048});
        for (auto _ : state) benchmark::DoNotOptimize(at::matmul(a, b));
        state.counters["GFLOP/s"] =
            benchmark::Counter(2 * std::pow(2.048, 3) * static_cast<double>(state.iterations()),
                               benchmark::Counter::kIsRate);
      })
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
  benchmark::RunSpecifiedBenchmarks();
}
