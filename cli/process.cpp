#include "cli/process.h"

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace rlhf::cli {
namespace {

void set_default(const char* name, const std::string& value) {
  ::setenv(name, value.c_str(), /*overwrite=*/0);
}

/// Of the machine, rounded up.
std::string memory_in_gibibytes() {
  const auto pages = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES));
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return std::to_string((pages * page >> 30) + 1) + "GiB";
}

}  // namespace

void prepare_process(char** argv) {
  if (std::getenv("MIMALLOC_ALLOW_DECOMMIT") != nullptr) return;
  set_default("MIMALLOC_ALLOW_DECOMMIT", "0");  // its name in version 2.0, and
  set_default("MIMALLOC_PURGE_DELAY", "-1");    // later
  // Addresses alone. Without them a block above 16 MiB would be given back when it is freed.
  set_default("MIMALLOC_RESERVE_OS_MEMORY", memory_in_gibibytes());
  // Of who names a policy, the library's own count goes with it.
  if (std::getenv("OMP_WAIT_POLICY") == nullptr)
    set_default("GOMP_SPINCOUNT", "5000");  // docs/negative-results.md, Decoding
  set_default("OMP_WAIT_POLICY", "passive");
  ::execv("/proc/self/exe", argv);
}

}  // namespace rlhf::cli
