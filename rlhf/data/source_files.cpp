// Which files a source means.
#include <fnmatch.h>

#include <algorithm>
#include <array>

#include "rlhf/data/source.h"

namespace rlhf {
namespace {

constexpr std::array<std::string_view, 4> kEndings = {".jsonl", ".jsonl.gz", ".json", ".json.gz"};

bool is_data_file(const fs::path& path) {
  const std::string name = path.filename().string();
  return std::any_of(kEndings.begin(), kEndings.end(),
                     [&](auto ending) { return name.ends_with(ending); });
}

bool is_lines_file(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.ends_with(".jsonl") || name.ends_with(".jsonl.gz");
}

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file() && is_data_file(entry.path())) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// `train.jsonl`, `train-00000-of-00002.jsonl.gz`
bool is_of_split(const fs::path& path, const std::string& split) {
  const std::string name = path.filename().string();
  return name.starts_with(split + ".") || name.starts_with(split + "-");
}

std::vector<fs::path> named_files(const DataSource& source, const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& pattern : source.data_files) {
    const fs::path wanted = folder / pattern;
    if (fs::is_regular_file(wanted)) {
      files.push_back(wanted);
      continue;
    }
    const size_t before = files.size();
    if (fs::is_directory(wanted.parent_path())) {
      for (const auto& entry : fs::directory_iterator(wanted.parent_path())) {
        if (entry.is_regular_file() &&
            fnmatch(wanted.filename().c_str(), entry.path().filename().c_str(), FNM_PERIOD) == 0) {
          files.push_back(entry.path());
        }
      }
    }
    std::sort(files.begin() + static_cast<std::ptrdiff_t>(before), files.end());
    if (files.size() == before) {
      throw UserError(wanted.string(), "a data file was expected, none matches.",
                      "check `data_files`.");
    }
  }
  return files;
}

std::vector<fs::path> split_files(const fs::path& folder, const std::string& split) {
  std::vector<fs::path> chosen;
  const std::vector<fs::path> all = files_in(folder);
  for (const auto& file : all) {
    if (is_of_split(file, split)) chosen.push_back(file);
  }
  if (chosen.empty() && fs::is_directory(folder / split)) chosen = files_in(folder / split);
  if (!chosen.empty() || split != "train") return chosen;
  const bool split_named = std::any_of(all.begin(), all.end(), [](const fs::path& file) {
    return is_of_split(file, "test") || is_of_split(file, "validation") ||
           is_of_split(file, "eval");
  });
  if (split_named) return {};
  std::copy_if(all.begin(), all.end(), std::back_inserter(chosen), is_lines_file);
  return chosen;
}

}  // namespace

std::vector<fs::path> resolve_files(const DataSource& source) {
  if (!fs::exists(source.path)) {
    throw UserError(source.path.string(), "a data file or folder was expected, there is none.",
                    "data is read from this machine: give the path of a JSONL file or of a folder "
                    "with train.jsonl.");
  }
  if (fs::is_regular_file(source.path)) {
    if (source.split == "train" && source.data_files.empty()) return {source.path};
    throw UserError(
        source.path.string(),
        fmt::format("a folder with a split `{}` was expected, got a file.", source.split),
        "a file holds the split `train` alone; set `test_split_size`, or give a folder.");
  }
  fs::path folder = source.path;
  for (const auto& inner : {source.name, source.data_dir}) {
    if (!inner.empty()) folder /= inner;
  }
  if (!fs::is_directory(folder))
    throw UserError(folder.string(), "a folder was expected, there is none.");
  if (!source.data_files.empty()) return named_files(source, folder);
  std::vector<fs::path> files = split_files(folder, source.split);
  if (files.empty()) {
    throw UserError(folder.string(),
                    fmt::format("{0}.jsonl, {0}.jsonl.gz or {0}-*.jsonl was expected, found none.",
                                source.split),
                    "name the files by split, or say which split there is (dataset_train_split, "
                    "dataset_test_split; in a mixture, split).");
  }
  return files;
}

bool has_split(const DataSource& source) {
  try {
    return !resolve_files(source).empty();
  } catch (const UserError&) {
    return false;
  }
}

}  // namespace rlhf
