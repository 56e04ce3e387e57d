// bench_kernels [--threads N] [Google Benchmark's flags]: every kernel checked against plain torch,
// then both timed. Exit code 1 where a check fails or no benchmark has the name asked for.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <optional>
#include <string_view>

#include "bench/kernels/bench.h"
#include "cli/process.h"

namespace {

using rlhf::bench::Call;
using rlhf::bench::Work;

/// The number behind --threads, 0 without the flag, nothing where the arguments are wrong.
std::optional<int> threads_of(int argc, char** argv) {
  std::string_view text;
  if (argc == 1) return 0;
  if (argc == 3 && std::string_view(argv[1]) == "--threads") text = argv[2];
  if (argc == 2 && std::string_view(argv[1]).starts_with("--threads=")) text = argv[1] + 10;
  int threads = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), threads);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && threads >= 1 ? std::optional(threads) : std::nullopt;
}

/// What the peaks were measured with, once more: a share far from 100 says that the machine has
/// changed since the start.
void add_peak(const char* name, const Work& work, const std::function<Call()>& set_up) {
  benchmark::RegisterBenchmark(name,
                               [=](benchmark::State& state) {
                                 const Call call = set_up();
                                 call();
                                 rlhf::bench::measure(state, call, work);
                               })
      ->Unit(benchmark::kMicrosecond)
      ->UseRealTime();
}

void add_peaks() {
  constexpr int64_t n = 1536;
  add_peak("peak/product", rlhf::bench::operations(2.0 * n * n * n), [] {
    return [a = at::ones({n, n})] { return rlhf::bench::Tensors{at::mm(a, a)}; };
  });
  constexpr int64_t count = int64_t{1} << 26;
  add_peak("peak/read", rlhf::bench::floats_moved(count),
           [] { return [x = at::ones({count})] { return rlhf::bench::Tensors{x.sum()}; }; });
}

void add_all() {
  rlhf::bench::add_attention();
  rlhf::bench::add_decode_attention();
  rlhf::bench::add_norms();
  rlhf::bench::add_rotary();
  rlhf::bench::add_gated_units();
  rlhf::bench::add_softmax_rows();
  rlhf::bench::add_thin_products();
  rlhf::bench::add_adamw();
  rlhf::bench::add_head();
  add_peaks();
}

}  // namespace

int main(int argc, char** argv) {
  rlhf::cli::prepare_process(argv);
  benchmark::Initialize(&argc, argv);
  const std::optional<int> threads = threads_of(argc, argv);
  if (!threads) {
    fmt::print(stderr, "error: --threads N and flags of Google Benchmark were expected, got {}.\n",
               fmt::join(argv + 1, argv + argc, " "));
    return 1;
  }
  if (*threads > 0) at::set_num_threads(*threads);
  benchmark::AddCustomContext("threads", fmt::format("{}", at::get_num_threads()));
  benchmark::AddCustomContext("gflops_fp32", fmt::format("{:.1f}", rlhf::bench::peaks().gflops));
  benchmark::AddCustomContext("read_gb_per_s", fmt::format("{:.1f}", rlhf::bench::peaks().read_gb));
  add_all();
  return benchmark::RunSpecifiedBenchmarks() == 0 || rlhf::bench::failed() ? 1 : 0;
}
