#include "rlhf/data/schema.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

namespace rlhf {
namespace {

/// Columns of text of each type; language modelling is special: `text`, `messages` or `input_ids`.
std::vector<std::string_view> parts_of(RowType type) {
  switch (type) {
    case RowType::language_modelling:
      return {};
    case RowType::prompt_only:
      return {"prompt"};
    case RowType::prompt_completion:
      return {"prompt", "completion"};
    case RowType::preference:
      return {"prompt", "chosen", "rejected"};
    case RowType::implicit_preference:
      return {"chosen", "rejected"};
    case RowType::unpaired:
      return {"prompt", "completion"};
    case RowType::stepwise:
      return {"prompt"};
  }
  return {};
}

std::string ids_column(std::string_view part) { return std::string(part) + "_ids"; }

bool is_message_list(const Json& value) {
  return value.is_array() && !value.empty() && value.front().is_object() &&
         value.front().contains("role");
}

std::optional<RowForm> form_of_part(const Json& row, std::string_view part) {
  if (has_column(row, ids_column(part))) return RowForm::ids;
  if (!has_column(row, part)) return std::nullopt;
  const Json& value = row.at(std::string(part));
  if (value.is_string()) return RowForm::text;
  if (value.is_array()) return RowForm::messages;
  return std::nullopt;
}

bool has_part(const Json& row, std::string_view part) {
  return has_column(row, part) || has_column(row, ids_column(part));
}

bool has_columns(const Json& row, RowType type) {
  const auto parts = parts_of(type);
  if (!std::all_of(parts.begin(), parts.end(), [&](auto part) { return has_part(row, part); }))
    return false;
  switch (type) {
    case RowType::language_modelling:
      return has_column(row, "text") || has_column(row, "messages") || has_column(row, "input_ids");
    case RowType::unpaired:
      return has_column(row, "label");
    case RowType::stepwise:
      return has_part(row, "completions") && has_column(row, "labels");
    default:
      return true;
  }
}

RowForm form_of_row(const Json& row, RowType type) {
  if (type == RowType::language_modelling) {
    if (has_column(row, "input_ids")) return RowForm::ids;
    return has_column(row, "messages") ? RowForm::messages : RowForm::text;
  }
  return form_of_part(row, parts_of(type).front()).value_or(RowForm::text);
}

std::string columns_text(const Json& row) {
  std::vector<std::string> names;
  for (const auto& [name, value] : row.items()) names.push_back("`" + name + "`");
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

std::string_view expected_columns(RowType type) {
  switch (type) {
    case RowType::language_modelling:
      return "`text` or `messages`";
    case RowType::prompt_only:
      return "`prompt`";
    case RowType::prompt_completion:
      return "`prompt` and `completion`";
    case RowType::preference:
      return "`chosen` and `rejected` (and `prompt`)";
    case RowType::implicit_preference:
      return "`chosen` and `rejected`";
    case RowType::unpaired:
      return "`prompt`, `completion` and `label`";
    case RowType::stepwise:
      return "`prompt`, `completions` and `labels`";
  }
  return "";
}

using Fault = std::optional<std::string>;

Fault check_content(const Json& message, std::string_view column, size_t index) {
  const bool has_calls = has_column(message, "tool_calls");
  if (!has_column(message, "content")) {
    if (has_calls || has_column(message, "reasoning_content")) return std::nullopt;
    return fmt::format("`{}[{}]` was expected to have a `content`.", column, index);
  }
  const Json& content = message.at("content");
  if (content.is_string()) return std::nullopt;
  if (!content.is_array()) {
    return fmt::format("`{}[{}].content` was expected to be text, got {}.", column, index,
                       content.type_name());
  }
  for (const Json& part : content) {
    if (part.is_object() && part.value("type", "") == "text" && part.contains("text")) continue;
    return fmt::format("`{}[{}].content` was expected to hold parts of type `text` only.", column,
                       index);
  }
  return std::nullopt;
}

Fault check_messages(const Json& value, std::string_view column) {
  if (!value.is_array() || value.empty()) {
    return fmt::format("`{}` was expected to be a list of messages with one at least, got {}.",
                       column, value.is_array() ? "an empty list" : value.type_name());
  }
  for (size_t i = 0; i < value.size(); ++i) {
    const Json& message = value[i];
    if (!message.is_object() || !message.contains("role") || !message.at("role").is_string()) {
      return fmt::format("`{}[{}]` was expected to be a message with a `role`.", column, i);
    }
    if (Fault fault = check_content(message, column, i)) return fault;
  }
  return std::nullopt;
}

Fault check_ids(const Json& value, std::string_view column) {
  if (!value.is_array()) {
    return fmt::format("`{}` was expected to be a list of token ids, got {}.", column,
                       value.type_name());
  }
  for (const Json& id : value) {
    if (id.is_number_integer() && id >= 0 && id <= std::numeric_limits<int32_t>::max()) continue;
    return fmt::format("`{}` was expected to hold token ids, got {}.", column, id.dump());
  }
  return std::nullopt;
}

Fault check_value(const Json& row, const std::string& column, RowForm form) {
  const std::string name = form == RowForm::ids ? ids_column(column) : column;
  if (!has_column(row, name)) return fmt::format("column `{}` was expected.", name);
  const Json& value = row.at(name);
  switch (form) {
    case RowForm::messages:
      return check_messages(value, name);
    case RowForm::ids:
      return check_ids(value, name);
    case RowForm::text:
      if (value.is_string()) return std::nullopt;
      return fmt::format("`{}` was expected to be text as in the first row, got {}.", name,
                         value.type_name());
  }
  return std::nullopt;
}

bool is_label(const Json& value) {
  return value.is_boolean() || (value.is_number_integer() && (value == 0 || value == 1));
}

Fault check_mask(const Json& row, const std::string& column, bool binary) {
  if (!has_column(row, column)) return std::nullopt;
  const Json& mask = row.at(column);
  const Json& ids = row.at("input_ids");
  if (!mask.is_array() || mask.size() != ids.size()) {
    return fmt::format("`{}` was expected to have as many entries as `input_ids` ({}).", column,
                       ids.size());
  }
  for (size_t i = 0; i < mask.size(); ++i) {
    if (binary ? is_label(mask[i]) : mask[i] == -100 || mask[i] == ids[i]) continue;
    return fmt::format(
        "`{}[{}]` was expected to be {}, got {}.", column, i,
        binary ? std::string("0 or 1") : fmt::format("-100 or the id itself, {}", ids[i].dump()),
        mask[i].dump());
  }
  return std::nullopt;
}

Fault check_language_modelling(const Json& row, RowForm form) {
  if (form == RowForm::text) return check_value(row, "text", form);
  if (form == RowForm::messages) return check_value(row, "messages", form);
  if (!has_column(row, "input_ids")) return "column `input_ids` was expected.";
  if (Fault fault = check_ids(row.at("input_ids"), "input_ids")) return fault;
  for (const char* column : {"completion_mask", "assistant_masks"}) {
    if (Fault fault = check_mask(row, column, /*binary=*/true)) return fault;
  }
  return check_mask(row, "labels", /*binary=*/false);
}

Fault check_stepwise(const Json& row, RowForm form) {
  const std::string column = form == RowForm::ids ? "completions_ids" : "completions";
  if (!has_column(row, column) || !row.at(column).is_array() || row.at(column).empty()) {
    return fmt::format("`{}` was expected to be a list with one step at least.", column);
  }
  const Json& steps = row.at(column);
  for (size_t i = 0; i < steps.size(); ++i) {
    const std::string name = fmt::format("{}[{}]", column, i);
    if (form == RowForm::ids) {
      if (Fault fault = check_ids(steps[i], name)) return fault;
    } else if (!steps[i].is_string()) {
      return fmt::format("`{}` was expected to be text, got {}.", name, steps[i].type_name());
    }
  }
  const Json& labels = row.contains("labels") ? row.at("labels") : Json();
  if (!labels.is_array() || labels.size() != steps.size()) {
    return fmt::format(
        "`labels` was expected to be a list with a label for each of the {} steps, got {}.",
        steps.size(), labels.is_array() ? std::to_string(labels.size()) : labels.type_name());
  }
  for (size_t i = 0; i < labels.size(); ++i) {
    if (is_label(labels[i])) continue;
    return fmt::format("`labels[{}]` was expected to be true or false, got {}.", i,
                       labels[i].dump());
  }
  return std::nullopt;
}

Fault check_common(const Json& row) {
  for (const char* column : {"tools", "documents"}) {
    if (has_column(row, column) && !row.at(column).is_array()) {
      return fmt::format("`{}` was expected to be a list, got {}.", column,
                         row.at(column).type_name());
    }
  }
  if (has_column(row, "chat_template_kwargs") && !row.at("chat_template_kwargs").is_object()) {
    return fmt::format("`chat_template_kwargs` was expected to be an object, got {}.",
                       row.at("chat_template_kwargs").type_name());
  }
  return std::nullopt;
}

Fault fault_of(const Json& row, const Schema& schema) {
  if (schema.type == RowType::language_modelling) {
    if (Fault fault = check_language_modelling(row, schema.form)) return fault;
  }
  for (const auto part : parts_of(schema.type)) {
    if (Fault fault = check_value(row, std::string(part), schema.form)) return fault;
  }
  if (schema.type == RowType::unpaired && !(row.contains("label") && is_label(row.at("label")))) {
    return fmt::format("`label` was expected to be true or false, got {}.",
                       row.contains("label") ? row.at("label").dump() : "none");
  }
  if (schema.type == RowType::stepwise) {
    if (Fault fault = check_stepwise(row, schema.form)) return fault;
  }
  return check_common(row);
}

}  // namespace

std::string_view name_of(RowType type) {
  switch (type) {
    case RowType::language_modelling:
      return "language modelling";
    case RowType::prompt_only:
      return "prompt-only";
    case RowType::prompt_completion:
      return "prompt-completion";
    case RowType::preference:
      return "preference";
    case RowType::implicit_preference:
      return "preference with an implicit prompt";
    case RowType::unpaired:
      return "unpaired preference";
    case RowType::stepwise:
      return "stepwise";
  }
  return "";
}

std::string_view name_of(RowForm form) {
  switch (form) {
    case RowForm::text:
      return "text";
    case RowForm::messages:
      return "conversational";
    case RowForm::ids:
      return "token ids";
  }
  return "";
}

Schema detect_schema(const Record& record, std::span<const RowType> wanted) {
  for (RowType type : wanted) {
    if (type == RowType::preference && has_columns(record.row, RowType::implicit_preference)) {
      // A text prompt beside whole conversations only repeats their first message.
      const auto prompt = form_of_part(record.row, "prompt");
      const bool repeats =
          prompt == RowForm::text && form_of_part(record.row, "chosen") == RowForm::messages;
      if (!prompt || repeats) type = RowType::implicit_preference;
      return {type, form_of_row(record.row, type)};
    }
    if (has_columns(record.row, type)) return {type, form_of_row(record.row, type)};
  }
  std::vector<std::string_view> expected;
  for (const RowType type : wanted) expected.push_back(expected_columns(type));
  throw UserError(record.where,
                  fmt::format("columns {} were expected, got {}.", fmt::join(expected, ", or "),
                              columns_text(record.row)),
                  "rename columns with dataset_columns: {wanted_name: name_in_the_file}.");
}

std::optional<Problem> check_row(const Record& record, const Schema& schema) {
  Fault fault = fault_of(record.row, schema);
  if (!fault) return std::nullopt;
  return Problem{record.where, *std::move(fault),
                 fmt::format("the first row of this set is of type {} ({}); every row must be.",
                             name_of(schema.type), name_of(schema.form))};
}

SplitPreference split_implicit_prompt(const Json& chosen, const Json& rejected) {
  if (chosen.is_string()) {
    const auto& a = chosen.get_ref<const std::string&>();
    const auto& b = rejected.get_ref<const std::string&>();
    size_t same = 0;
    while (same < std::min(a.size(), b.size()) && a[same] == b[same]) ++same;
    const auto inside_character = [](const std::string& text, size_t at) {
      return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
    };
    while (same > 0 && (inside_character(a, same) || inside_character(b, same))) --same;
    if (same > 0 && a[same - 1] == ' ') --same;
    return {a.substr(0, same), a.substr(same), b.substr(same)};
  }
  const size_t shorter = std::min(chosen.size(), rejected.size());
  size_t same = 0;
  while (is_message_list(chosen) && same + 1 < shorter && chosen[same] == rejected[same]) ++same;
  if (!is_message_list(chosen)) {  // ids: an empty completion is possible, so all may be common
    while (same < shorter && chosen[same] == rejected[same]) ++same;
  }
  const auto slice = [](const Json& list, size_t begin, size_t end) {
    return Json(Json::array_t(list.begin() + static_cast<std::ptrdiff_t>(begin),
                              list.begin() + static_cast<std::ptrdiff_t>(end)));
  };
  return {slice(chosen, 0, same), slice(chosen, same, chosen.size()),
          slice(rejected, same, rejected.size())};
}

}  // namespace rlhf
