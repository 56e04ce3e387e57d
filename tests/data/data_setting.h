// A tiny model, a data file and a cache folder, for tests that prepare data.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "rlhf/data/prepare.h"
#include "tests/data/model_folder.h"
#include "tests/data/temporary.h"

namespace rlhf {

struct DataSetting {
  explicit DataSetting(const std::string& tokenizer = "byte_level")
      : model(tokenizer),
        fingerprint(text_fingerprint(data_fixture(tokenizer), model.tokenizer.chat_template())) {}

  /// One file of these lines.
  DataSpec spec(const std::string& text) const {
    return {.sources = {{.path = folder.write("d.jsonl", text)}}};
  }
  /// One file of these rows.
  DataSpec spec(const Json& rows) const {
    std::string text;
    for (const Json& row : rows) text += row.dump() + "\n";
    return spec(text);
  }
  fs::path cache() const { return folder.path() / "cache"; }
  int64_t caches() const {
    return std::count_if(fs::directory_iterator(cache()), fs::directory_iterator(),
                         [](const fs::directory_entry& entry) { return entry.is_directory(); });
  }

  ModelFolder model;
  TemporaryFolder folder;
  Statistics statistics;
  std::string fingerprint;
};

inline std::vector<int32_t> vector_of(std::span<const int32_t> ids) {
  return {ids.begin(), ids.end()};
}

inline std::vector<int32_t> joined(std::span<const int32_t> a, std::span<const int32_t> b) {
  std::vector<int32_t> both = vector_of(a);
  both.insert(both.end(), b.begin(), b.end());
  return both;
}

inline Json message(const char* role, const std::string& content) {
  Json json = Json::object();
  json["role"] = role;
  json["content"] = content;
  return json;
}

}  // namespace rlhf
