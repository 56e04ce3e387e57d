// Run once at configure time. Exit 0 when parallel_for uses more than one thread (where there is
// more than one core), fmt is the system's, and exactly one libgomp is loaded.
#include <ATen/Parallel.h>
#include <fmt/core.h>
#include <link.h>
#include <omp.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <set>
#include <string>
#include <thread>

int main() {
  static_assert(FMT_VERSION < 120000, "torch's bundled fmt shadows the system's");
  std::set<std::string> gomp;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        if (std::strstr(info->dlpi_name, "libgomp")) {
          static_cast<std::set<std::string>*>(out)->insert(info->dlpi_name);
        }
        return 0;
      },
      &gomp);
  if (gomp.size() > 1) {
    for (const auto& name : gomp) std::printf("second OpenMP runtime: %s\n", name.c_str());
    return 1;
  }
  const int cores = omp_get_num_procs();
  at::set_num_threads(cores);
  std::atomic<int> chunks{0};
  at::parallel_for(0, 1024, 1, [&](int64_t, int64_t) { ++chunks; });
  std::printf("parallel_for in %d chunks on %d cores, fmt %d, %zu libgomp", chunks.load(), cores,
              FMT_VERSION, gomp.size());
  return cores > 1 && chunks.load() < 2 ? 1 : 0;
}
