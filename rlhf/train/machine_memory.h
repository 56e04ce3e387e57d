// How much memory this process may still take: what Linux calls available, or what its control group
// leaves, whichever is less.
#pragma once

#include <cstdint>
#include <filesystem>

namespace rlhf {

struct MachineMemory {
  int64_t available = 0;  ///< bytes; 0: not known
  int64_t used_here = 0;  ///< resident bytes of this process
};

/// Reads /proc and /sys; `root` is put before their paths (tests).
MachineMemory machine_memory(const std::filesystem::path& root = "/");

}  // namespace rlhf
