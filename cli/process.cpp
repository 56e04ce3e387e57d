#include "cli/process.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "rlhf/kernels/tensor_memory.h"

namespace rlhf::cli {
namespace {

/// Says that the process which is begun was prepared by the one before it.
constexpr const char* kPrepared = "RLHF_PROCESS_PREPARED";

/// A standard stream that was closed would be the next file that is opened, and get our messages.
/// What is written to such a standard output fails all the same; messages are lost.
void open_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) >= 0) continue;
    ::open("/dev/null", stream == STDERR_FILENO ? O_WRONLY : O_RDONLY);  // gets the lowest number
  }
}

void set_default(const char* name, const std::string& value) {
  ::setenv(name, value.c_str(), /*overwrite=*/0);
}

/// Of the machine, rounded up.
uint64_t memory_in_gibibytes() {
  const auto pages = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES));
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return (pages * page >> 30) + 1;
}

}  // namespace

void prepare_process(char** argv) {
  open_standard_streams();
  if (std::getenv(kPrepared) != nullptr) {
#ifdef RLHF_OWN_ALLOCATORS
    use_tensor_memory(memory_in_gibibytes() << 30);
#endif
    return;
  }
  ::setenv(kPrepared, "1", /*overwrite=*/1);
  set_default("MIMALLOC_ALLOW_DECOMMIT", "0");  // its name in version 2.0, and
  set_default("MIMALLOC_PURGE_DELAY", "-1");    // later
  // Addresses alone. Without them a block above 16 MiB would be given back when it is freed.
  set_default("MIMALLOC_RESERVE_OS_MEMORY", std::to_string(memory_in_gibibytes()) + "GiB");
  // Of who names a policy, the library's own count goes with it.
  if (std::getenv("OMP_WAIT_POLICY") == nullptr)
    set_default("GOMP_SPINCOUNT", "5000");  // docs/negative-results.md, Decoding
  set_default("OMP_WAIT_POLICY", "passive");
  ::execv("/proc/self/exe", argv);
}

}  // namespace rlhf::cli
