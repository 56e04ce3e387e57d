// rlhf env: what this machine offers, measured. The bounds that speed is judged by.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <sys/wait.h>
#include <torch/version.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "cli/commands.h"
#include "cli/inference.h"
#include "cli/terminal.h"
#include "rlhf/core/json.h"
#include "rlhf/core/threads.h"
#include "rlhf/kernels/peaks.h"
#include "rlhf/train/machine_memory.h"

namespace rlhf::cli {
namespace {

constexpr int kNever = 200;

/// The least number of rows from which on a product gives each row the bits it has in a product of
/// 200 rows, over many shapes: 1 where a row never depends on what shares the batch.
int rows_independent_from() {
  constexpr std::array counts = {1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 31, 64, 127, 150};
  int from = 1;
  at::manual_seed(1);
  for (const int64_t inner : {64, 576, 1536}) {
    for (const int64_t outer : {64, 576, 1537}) {
      const at::Tensor weight = at::randn({outer, inner}).t();
      const at::Tensor rows = at::randn({kNever, inner});
      const at::Tensor all = at::mm(rows, weight);
      for (size_t i = 0; i < counts.size(); ++i) {
        if (!at::equal(at::mm(rows.narrow(0, 7, counts[i]), weight), all.narrow(0, 7, counts[i]))) {
          from = std::max(from, i + 1 < counts.size() ? counts[i + 1] : kNever);
        }
      }
    }
  }
  return from;
}

constexpr const char* kProbe = "--probe_row_independence";

/// The variable is read once a process, so another one is asked; it answers by its exit code. Null
/// where rows always depend on each other, or the process failed.
Json probe_rows(bool strict) {
  const pid_t child = ::fork();
  if (child < 0) {
    return nullptr;
  }
  if (child == 0) {
    strict ? ::setenv("MKL_CBWR", "AUTO,STRICT", /*overwrite=*/1) : ::unsetenv("MKL_CBWR");
    ::execl("/proc/self/exe", "rlhf", "env", kProbe, static_cast<char*>(nullptr));
    ::_exit(0);
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
    return nullptr;
  }
  const int code = WEXITSTATUS(status);
  return code >= 1 && code < kNever ? Json(code) : Json(nullptr);
}

/// The value of `name` in a file of `name : value` lines; empty where there is none.
std::string field_of(const char* path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (line.starts_with(name) && colon != std::string::npos &&
        line.find_first_not_of(" \t", name.size()) == colon) {
      const size_t value = line.find_first_not_of(" \t", colon + 1);
      return value == std::string::npos ? "" : line.substr(value);
    }
  }
  return "";
}

Json cpu_flags() {
  Json found = Json::array();
  std::istringstream words(field_of("/proc/cpuinfo", "flags"));
  for (std::string word; words >> word;) {
    for (const char* wanted :
         {"avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16"}) {
      if (word == wanted) {
        found.push_back(word);
      }
    }
  }
  return found;
}

int64_t memory_bytes() { return std::atoll(field_of("/proc/meminfo", "MemTotal").c_str()) * 1024; }

Json describe() {
  const Bandwidth bandwidth = memory_bandwidth();
  const auto rounded = [](double value) { return std::round(value * 10.0) / 10.0; };
  return {
      {"rlhf", RLHF_VERSION},
      {"torch", TORCH_VERSION},
      {"compiler", __VERSION__},
      {"device", at::hasCUDA() ? "cuda" : "cpu"},
      {"cpu", field_of("/proc/cpuinfo", "model name")},
      {"cpu_flags", cpu_flags()},
      {"cores", available_cores()},
      {"threads", at::get_num_threads()},
      {"memory_bytes", memory_bytes()},
      {"memory_available_bytes", machine_memory().available},
      {"gflops_fp32", rounded(product_peak(at::kFloat))},
      {"gflops_bf16", rounded(product_peak(at::kBFloat16))},
      {"read_gb_per_s", rounded(bandwidth.read)},
      {"copy_gb_per_s", rounded(bandwidth.copy)},
      {"rows_independent_from", probe_rows(/*strict=*/false)},
      {"rows_independent_from_strict", probe_rows(/*strict=*/true)},
  };
}

std::string readable(const Json& found) {
  std::string text;
  for (const auto& [name, value] : found.items()) {
    text += fmt::format("{:<29} {}\n", name,
                        value.is_string() ? value.get<std::string>() : value.dump());
  }
  return text +
         "\ngflops: a square product of 1,536 rows (fewer where it is slow), the bound of model "
         "FLOP utilisation.\n"
         "rows_independent_from: products of at least so many rows give each row the same bits "
         "whatever "
         "rows are beside it;\n_strict: with MKL_CBWR=AUTO,STRICT, which full_determinism sets.\n";
}

}  // namespace

int run_env(std::span<const std::string> args) {
  const at::NoGradGuard no_grad;
  if (args.size() == 1 && args[0] == kProbe) {
    return rows_independent_from();
  }
  bool json = false;
  int64_t threads = 0;
  OptionSet set;
  set.add("json", json, "Print one JSON line.");
  set.add("threads", threads, "Threads; 0 takes every core this process may use.").at_least(0);
  if (!read_arguments(set, args,
                      "Usage: rlhf env [--json]\n\nVersions, device, threads, and this machine's "
                      "measured peaks (takes some seconds).",
                      {})) {
    return 0;
  }
  fix_threads(threads);
  const Json found = describe();
  print_out(json ? found.dump() + "\n" : readable(found));
  return 0;
}

}  // namespace rlhf::cli
