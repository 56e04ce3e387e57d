#include "bench/kernels/bench.h"

#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <memory>
#include <stdexcept>

#include "rlhf/kernels/peaks.h"

namespace rlhf::bench {
namespace {

bool any_failed = false;

// Empty where the results agree.
std::string disagreement(const Tensors& kernel, const Tensors& torch, double tolerance) {
  if (kernel.size() != torch.size()) {
    return fmt::format("{} results were expected, got {}", torch.size(), kernel.size());
  }
  for (size_t i = 0; i < kernel.size(); ++i) {
    if (kernel[i].sizes() != torch[i].sizes()) {
      return fmt::format("result {}: shape ({}) was expected, got ({})", i,
                         fmt::join(torch[i].sizes(), ", "), fmt::join(kernel[i].sizes(), ", "));
    }
    const auto want = torch[i].to(at::kDouble);
    const double largest =
        std::max(want.abs().max().item<double>(), std::numeric_limits<double>::min());
    const double far = (kernel[i].to(at::kDouble) - want).abs().max().item<double>() / largest;
    if (!(far <= tolerance)) {
      return fmt::format("result {} differs by {:.2g} of its largest value, {:.2g} were allowed", i,
                         far, tolerance);
    }
  }
  return "";
}

// The data of one case at a time, and what the check of every case has found.
const Pair& checked(const Case& one) {
  static std::string current;
  static Pair pair;
  static std::map<std::string, std::string> verdicts;
  if (current != one.name) {
    current.clear();
    pair = {};  // the memory of the one before is free before the next is made
    at::manual_seed(1);
    pair = one.set_up();
    current = one.name;
  }
  auto verdict = verdicts.find(one.name);
  if (verdict == verdicts.end()) {
    const auto found = disagreement(pair.kernel(), pair.torch(), one.tolerance);
    verdict = verdicts.emplace(one.name, found).first;
  }
  if (!verdict->second.empty()) throw std::runtime_error(verdict->second);
  return pair;
}

void run(benchmark::State& state, const Case& one, bool kernel) {
  try {
    const Pair& pair = checked(one);
    measure(state, kernel ? pair.kernel : pair.torch, one.work);
    if (kernel && pair.figure) state.counters[pair.figure->name] = pair.figure->value();
  } catch (const std::exception& error) {
    any_failed = true;
    state.SkipWithError(error.what());
  }
}

Tensors leaves_of(const Differentiable& one, const Tensors& inputs) {
  Tensors leaves = inputs;
  for (size_t i = 0; i < one.leaves; ++i) leaves[i] = inputs[i].detach().requires_grad_();
  return leaves;
}

Tensors gradients(const Differentiable& one, const at::Tensor& out, const Tensors& leaves,
                  const at::Tensor& gradient) {
  return torch::autograd::grad(
      {out}, {leaves.begin(), leaves.begin() + static_cast<std::ptrdiff_t>(one.leaves)}, {gradient},
      /*retain_graph=*/true);
}

Pair backward_pair(const Differentiable& one) {
  const Tensors leaves = leaves_of(one, one.inputs());
  const at::Tensor out = one.kernel(leaves), torch_out = one.torch(leaves);
  const at::Tensor gradient = at::randn_like(out);
  return {[=] { return gradients(one, out, leaves, gradient); },
          [=] { return gradients(one, torch_out, leaves, gradient); }};
}

Pair both_pair(const Differentiable& one) {
  const auto call = [&one, leaves = leaves_of(one, one.inputs())](const auto& function) {
    return [one, leaves, function] {
      const at::Tensor out = function(leaves);
      Tensors results = gradients(one, out, leaves, at::ones_like(out));
      results.push_back(out.detach());
      return results;
    };
  };
  return {call(one.kernel), call(one.torch)};
}

}  // namespace

const Peaks& peaks() {
  static const Peaks found{product_peak(at::kFloat), memory_bandwidth().read};
  return found;
}

Work operations(double count) { return {Work::Bound::products, count * 1e-9}; }

Work floats_moved(double count) { return {Work::Bound::memory, count * sizeof(float) * 1e-9}; }

bool failed() { return any_failed; }

void measure(benchmark::State& state, const Call& call, const Work& work) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  for (auto _ : state) benchmark::DoNotOptimize(call());
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  const double rate = work.giga * static_cast<double>(state.iterations()) / seconds;
  const bool products = work.bound == Work::Bound::products;
  state.counters[products ? "GFLOP/s" : "GB/s"] = rate;
  state.counters["share%"] = 100.0 * rate / (products ? peaks().gflops : peaks().read_gb);
}

void add(const Case& one) {
  const auto shared = std::make_shared<const Case>(one);
  for (const bool kernel : {true, false}) {
    benchmark::RegisterBenchmark(
        fmt::format("{}/{}", one.name, kernel ? "kernel" : "torch").c_str(),
        [shared, kernel](benchmark::State& state) { run(state, *shared, kernel); })
        ->Unit(benchmark::kMicrosecond)
        ->UseRealTime();
  }
}

void add(const Differentiable& one) {
  const auto add_pass = [&](const char* pass, const std::optional<Work>& work,
                            const std::function<Pair()>& set_up) {
    if (work) add({fmt::format("{}/{}", one.name, pass), *work, one.tolerance, set_up});
  };
  add_pass("forward", one.forward, [one]() -> Pair {
    const Tensors inputs = one.inputs();
    return {[=] { return Tensors{one.kernel(inputs)}; },
            [=] { return Tensors{one.torch(inputs)}; }};
  });
  add_pass("backward", one.backward, [one] { return backward_pair(one); });
  add_pass("both", one.both, [one] { return both_pair(one); });
}

}  // namespace rlhf::bench
