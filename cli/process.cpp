#include "cli/process.h"

#include <unistd.h>

#include <cstdlib>

namespace rlhf::cli {

void prepare_process(char** argv) {
  if (std::getenv("MIMALLOC_ALLOW_DECOMMIT") != nullptr) return;
  ::setenv("MIMALLOC_ALLOW_DECOMMIT", "0", /*overwrite=*/0);  // its name in version 2.0, and
  ::setenv("MIMALLOC_PURGE_DELAY", "-1", /*overwrite=*/0);    // later
  ::setenv("OMP_WAIT_POLICY", "passive", /*overwrite=*/0);
  ::setenv("GOMP_SPINCOUNT", "1000", /*overwrite=*/0);
  ::execv("/proc/self/exe", argv);
}

}  // namespace rlhf::cli
