// Reads what tools/make_templates.py wrote.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

#include "rlhf/core/file.h"
#include "rlhf/core/json.h"
#include "rlhf/text/chat_template.h"
#include "tests/support/gzip.h"

namespace rlhf {

inline Json read_gz_json(const std::string& name) {
  return read_gzip_json(fs::path(RLHF_FIXTURES) / "text" / name);
}

/// The generator's clock: 2024-07-06 15:04:05.
inline std::tm fixed_clock() {
  std::tm out{};
  out.tm_year = 124;
  out.tm_mon = 6;
  out.tm_mday = 6;
  out.tm_hour = 15;
  out.tm_min = 4;
  out.tm_sec = 5;
  out.tm_wday = 6;
  out.tm_yday = 187;
  return out;
}

inline ChatInput chat_input(const Json& all, const Json& row) {
  ChatInput input;
  input.messages = all.at("conversations").at(row.at("messages").get<std::string>());
  input.tools = row.at("tools");
  input.add_generation_prompt = row.value("add_generation_prompt", false);
  input.continue_final_message = row.value("continue_final_message", false);
  if (row.contains("variables")) input.variables = row["variables"];
  return input;
}

/// Text of a template of another project, where the machine has it: `*.jinja` in RLHF_TEMPLATES, or
/// a tokenizer of RLHF_DATA.
inline std::optional<std::string> outside_template(const std::string& name) {
  if (name.ends_with(".jinja")) {
    const char* folder = std::getenv("RLHF_TEMPLATES");
    if (!folder || !fs::exists(fs::path(folder) / name)) return std::nullopt;
    return read_file(fs::path(folder) / name);
  }
  const char* data = std::getenv("RLHF_DATA");
  const fs::path folder = data ? fs::path(data) : fs::path(RLHF_FIXTURES) / "../../../shared/data";
  const fs::path file = folder / "tokenizers" / name / "tokenizer_config.json";
  if (!fs::exists(file)) return std::nullopt;
  return Json::parse(read_file(file)).at("chat_template").get<std::string>();
}

}  // namespace rlhf
