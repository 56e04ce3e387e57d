// Content hashes of data files, remembered while the files stay as they are.
#include <sys/stat.h>

#include <ctime>
#include <optional>

#include "rlhf/core/error.h"
#include "rlhf/core/threads.h"
#include "rlhf/data/cache.h"

namespace rlhf {
namespace {

constexpr std::string_view kHashes = "hashes.json";
constexpr int64_t kNanoseconds = 1'000'000'000;

/// What a file system says of a file's content without reading it.
struct Stamp {
  int64_t size;
  int64_t modified;  // nanoseconds
  uint64_t inode;
  uint64_t device;

  Json to_json() const { return {size, modified, inode, device}; }
};

Stamp stamp_of(const fs::path& file) {
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0) {
    throw UserError(file.string(), "a readable file was expected.",
                    "check the path and its permissions.");
  }
  return {info.st_size, info.st_mtim.tv_sec * kNanoseconds + info.st_mtim.tv_nsec, info.st_ino,
          info.st_dev};
}

Json load_hashes(const fs::path& path) {
  if (!fs::exists(path)) return Json::object();
  Json hashes = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  return hashes.is_object() ? hashes : Json::object();
}

std::optional<std::string> remembered(const Json& hashes, const std::string& name,
                                      const Stamp& stamp) {
  const auto found = hashes.find(name);
  if (found == hashes.end() || !found->is_object() ||
      found->value("stamp", Json()) != stamp.to_json()) {
    return std::nullopt;
  }
  return found->value("hash", "");
}

}  // namespace

std::vector<std::string> hash_files(const fs::path& folder, const std::vector<fs::path>& files) {
  const fs::path path = folder / kHashes;
  Json known = load_hashes(path);
  std::vector<std::string> result(files.size());
  std::vector<Json> fresh(files.size());
  parallel_pieces(static_cast<int64_t>(files.size()), /*grain=*/1, [&](int64_t begin, int64_t) {
    const auto i = static_cast<size_t>(begin);
    const Stamp stamp = stamp_of(files[i]);
    if (auto hash = remembered(known, fs::absolute(files[i]).string(), stamp)) {
      result[i] = *std::move(hash);
      return;
    }
    const int64_t now = static_cast<int64_t>(std::time(nullptr)) * kNanoseconds;
    result[i] = content_hash_of_file(files[i]);
    if (stamp.modified < now - 2 * kNanoseconds)
      fresh[i] = {{"stamp", stamp.to_json()}, {"hash", result[i]}};
  });
  bool changed = false;
  for (size_t i = 0; i < files.size(); ++i) {
    if (fresh[i].is_null()) continue;
    known[fs::absolute(files[i]).string()] = std::move(fresh[i]);
    changed = true;
  }
  if (changed) {
    fs::create_directories(folder);
    write_file(path, known.dump(1) + "\n");
  }
  return result;
}

}  // namespace rlhf
