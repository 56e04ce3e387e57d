#include "rlhf/data/file_hashes.h"

#include <sys/stat.h>

#include <ctime>
#include <optional>

#include "rlhf/core/error.h"
#include "rlhf/core/threads.h"

namespace rlhf {
namespace {

constexpr std::string_view kHashes = "hashes.json";
constexpr int64_t kNanoseconds = 1'000'000'000;

Json load_hashes(const fs::path& path) {
  if (!fs::exists(path)) return Json::object();
  Json hashes = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  return hashes.is_object() ? hashes : Json::object();
}

std::optional<std::string> remembered(const Json& hashes, const std::string& name,
                                      const FileStamp& stamp) {
  const auto found = hashes.find(name);
  if (found == hashes.end() || !found->is_object() ||
      found->value("stamp", Json()) != stamp.to_json()) {
    return std::nullopt;
  }
  return found->value("hash", "");
}

}  // namespace

FileStamp FileStamp::of(const fs::path& file) {
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0) {
    throw UserError(file.string(), "a readable file was expected.",
                    "check the path and its permissions.");
  }
  return {info.st_size, info.st_mtim.tv_sec * kNanoseconds + info.st_mtim.tv_nsec, info.st_ino,
          info.st_dev};
}

Json FileStamp::to_json() const { return {size, modified, inode, device}; }

UnchangedFiles::UnchangedFiles(std::vector<fs::path> files) : files_(std::move(files)) {
  for (const auto& file : files_) stamps_.push_back(FileStamp::of(file));
}

void UnchangedFiles::require() const {
  for (size_t i = 0; i < files_.size(); ++i) {
    if (FileStamp::of(files_[i]) == stamps_[i]) continue;
    throw UserError(files_[i].string(),
                    "the file was expected to stay as it is while it is read, it has changed.",
                    "start again when nothing writes to it.");
  }
}

std::vector<std::string> hash_files(const fs::path& folder, const std::vector<fs::path>& files) {
  const fs::path path = folder / kHashes;
  Json known = load_hashes(path);
  std::vector<std::string> result(files.size());
  std::vector<Json> fresh(files.size());
  parallel_pieces(static_cast<int64_t>(files.size()), /*grain=*/1, [&](int64_t begin, int64_t) {
    const auto i = static_cast<size_t>(begin);
    const FileStamp stamp = FileStamp::of(files[i]);
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
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) {
      throw UserError(folder.string(),
                      fmt::format("a folder for encoded rows was expected to be writable: {}.",
                                  error.message()),
                      "name another with --cache_dir.");
    }
    write_file(path, known.dump(1) + "\n");
  }
  return result;
}

}  // namespace rlhf
