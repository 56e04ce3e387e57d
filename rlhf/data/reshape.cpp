// Rows as other tools write them, rewritten into the types of schema.h.
#include <utility>

#include "rlhf/data/schema.h"

namespace rlhf {
namespace {

using Fault = std::optional<std::string>;

constexpr const char* kMessageColumns[] = {"messages",   "conversations", "prompt",
                                           "completion", "chosen",        "rejected"};

Fault apply_columns(Json& row, const RowReshape& reshape) {
  if (!reshape.select.empty()) {
    Json kept = Json::object();
    for (const auto& column : reshape.select) {
      if (!row.contains(column)) return fmt::format("column `{}` was expected.", column);
      kept[column] = std::move(row[column]);
    }
    row = std::move(kept);
  }
  // All are taken out before any is put back, so that two columns can change names.
  std::vector<std::pair<std::string, Json>> renamed;
  for (const auto& [wanted, given] : reshape.rename) {
    if (!row.contains(given))
      return fmt::format("column `{}` (to become `{}`) was expected.", given, wanted);
    renamed.emplace_back(wanted, std::move(row[given]));
    row.erase(given);
  }
  for (auto& [wanted, value] : renamed) {
    if (row.contains(wanted)) {
      return fmt::format(
          "a free name was expected for a renamed column, got `{}`, which the row has already.",
          wanted);
    }
    row[wanted] = std::move(value);
  }
  return std::nullopt;
}

std::string role_of(const std::string& from) {
  if (from == "human") return "user";
  if (from == "gpt" || from == "function_call") return "assistant";
  if (from == "observation") return "tool";
  return from;
}

/// `{"name": ..., "arguments": ...}`, or a list of them, as OpenAI's tool calls; null where the
/// text is no such JSON.
Json tool_calls_of(const std::string& text) {
  Json parsed = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_object()) parsed = Json::array({std::move(parsed)});
  if (!parsed.is_array() || parsed.empty()) return {};
  Json calls = Json::array();
  for (Json& call : parsed) {
    if (!call.is_object() || !call.contains("name")) return {};
    calls.push_back({{"type", "function"}, {"function", std::move(call)}});
  }
  return calls;
}

Json convert_message(const Json& message) {
  Json out = Json::object();
  const std::string from = message.at("from").get<std::string>();
  out["role"] = role_of(from);
  for (const auto& [key, value] : message.items()) {
    if (key == "value") {
      out["content"] = value;
    } else if (key != "from") {
      out[key] = value;
    }
  }
  if (from == "function_call" && message.contains("value") && message.at("value").is_string()) {
    if (Json calls = tool_calls_of(message.at("value").get_ref<const std::string&>());
        !calls.is_null()) {
      out["content"] = "";
      out["tool_calls"] = std::move(calls);
    }
  }
  return out;
}

bool is_from_value(const Json& message) {
  return message.is_object() && message.contains("from") && message.at("from").is_string();
}

void convert_message_columns(Json& row) {
  for (const char* column : kMessageColumns) {
    const auto found = row.find(column);
    if (found == row.end()) continue;
    if (is_from_value(*found))
      *found = Json::array({*found});  // ShareGPT's `chosen`: a single message
    if (!found->is_array()) continue;
    for (Json& message : *found) {
      if (is_from_value(message)) message = convert_message(message);
    }
  }
}

void convert_conversations(Json& row) {
  if (!row.contains("conversations") || !row.at("conversations").is_array()) return;
  Json messages = std::move(row["conversations"]);
  row.erase("conversations");
  if (has_column(row, "system") && row.at("system") != "") {
    Json with_system = Json::array({{{"role", "system"}, {"content", row.at("system")}}});
    for (Json& message : messages) with_system.push_back(std::move(message));
    messages = std::move(with_system);
    row.erase("system");
  }
  const bool pair =
      has_column(row, "chosen") && has_column(row, "rejected") && !row.contains("prompt");
  row[pair ? "prompt" : "messages"] = std::move(messages);
}

Json message_of(const char* role, Json content) {
  Json message = Json::object();
  message["role"] = role;
  message["content"] = std::move(content);
  return message;
}

Fault convert_alpaca(Json& row) {
  if (!has_column(row, "instruction") || row.contains("prompt") || row.contains("messages"))
    return std::nullopt;
  for (const char* column : {"instruction", "input", "output", "system"}) {
    if (has_column(row, column) && !row.at(column).is_string()) {
      return fmt::format("`{}` was expected to be text, got {}.", column,
                         row.at(column).type_name());
    }
  }
  Json prompt = Json::array();
  if (has_column(row, "system") && row.at("system") != "")
    prompt.push_back(message_of("system", row.at("system")));
  if (has_column(row, "history")) {
    for (const Json& turn : row.at("history")) {
      if (!turn.is_array() || turn.size() != 2)
        return "`history` was expected to hold pairs of question and answer.";
      prompt.push_back(message_of("user", turn[0]));
      prompt.push_back(message_of("assistant", turn[1]));
    }
  }
  std::string question = row.at("instruction").get<std::string>();
  if (has_column(row, "input") && row.at("input") != "")
    question += "\n" + row.at("input").get<std::string>();
  prompt.push_back(message_of("user", std::move(question)));
  row["prompt"] = std::move(prompt);
  if (has_column(row, "output")) {
    row["completion"] = Json::array({message_of("assistant", row.at("output"))});
  }
  for (const char* column : {"instruction", "input", "output", "system", "history"})
    row.erase(column);
  return std::nullopt;
}

Fault parse_tools(Json& row) {
  if (!has_column(row, "tools") || !row.at("tools").is_string()) return std::nullopt;
  const std::string text = row.at("tools").get<std::string>();
  if (text.empty()) {
    row.erase("tools");
    return std::nullopt;
  }
  Json tools = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (tools.is_discarded()) return "`tools` was expected to be a list or a string of JSON.";
  row["tools"] = std::move(tools);
  return std::nullopt;
}

}  // namespace

std::optional<Problem> reshape_row(Record& record, const RowReshape& reshape) {
  Json& row = record.row;
  Fault fault = apply_columns(row, reshape);
  if (!fault) {
    convert_message_columns(row);
    convert_conversations(row);
    fault = convert_alpaca(row);
  }
  if (!fault) fault = parse_tools(row);
  if (!fault) return std::nullopt;
  return Problem{record.where, *std::move(fault), "see the row formats in docs/data-formats.md."};
}

}  // namespace rlhf
