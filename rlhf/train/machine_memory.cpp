#include "rlhf/train/machine_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

namespace rlhf {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

/// The number behind `name` in a file of `name: number kB` lines, in bytes.
int64_t kilobytes_of(const fs::path& file, const std::string& name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(name + ":")) continue;
    std::istringstream rest(line.substr(name.size() + 1));
    int64_t value = 0;
    if (rest >> value) return value * 1024;
  }
  return kUnknown;
}

/// A file that holds one number; `max`, and all else, is no limit.
int64_t number_in(const fs::path& file) {
  std::ifstream in(file);
  int64_t value = 0;
  return in >> value ? value : kUnknown;
}

/// The number behind `name ` in memory.stat: pages that are given back when they are wanted.
int64_t stat_of(const fs::path& file, const std::string& name) {
  std::ifstream in(file);
  std::string key;
  int64_t value = 0;
  while (in >> key >> value) {
    if (key == name) return value;
  }
  return 0;
}

int64_t left_in(const fs::path& folder, const char* limit, const char* usage, const char* pages) {
  const int64_t most = number_in(folder / limit);
  const int64_t used = number_in(folder / usage);
  if (most == kUnknown || used == kUnknown) return kUnknown;
  return std::max<int64_t>(0, most - used + stat_of(folder / "memory.stat", pages));
}

/// What the control group of this process and those around it leave.
int64_t left_in_groups(const fs::path& root) {
  int64_t left = kUnknown;
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t second = line.find(':', line.find(':') + 1);
    if (second == std::string::npos) continue;
    const bool unified = line.starts_with("0::");
    const bool memory = line.find(":memory:") != std::string::npos;
    if (!unified && !memory) continue;
    const fs::path mount = root / (unified ? "sys/fs/cgroup" : "sys/fs/cgroup/memory");
    fs::path group = fs::path(line.substr(second + 1)).relative_path();
    while (true) {
      const fs::path folder = group.empty() ? mount : mount / group;
      left =
          std::min(left, unified ? left_in(folder, "memory.max", "memory.current", "inactive_file")
                                 : left_in(folder, "memory.limit_in_bytes", "memory.usage_in_bytes",
                                           "total_inactive_file"));
      if (group.empty()) break;
      group = group.parent_path();
    }
  }
  return left;
}

}  // namespace

MachineMemory machine_memory(const fs::path& root) {
  const int64_t available =
      std::min(kilobytes_of(root / "proc/meminfo", "MemAvailable"), left_in_groups(root));
  const int64_t used = kilobytes_of(root / "proc/self/status", "VmRSS");
  return {.available = available == kUnknown ? 0 : available,
          .used_here = used == kUnknown ? 0 : used};
}

}  // namespace rlhf
