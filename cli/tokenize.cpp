// rlhf tokenize: text to ids, ids to text, conversations to both; a JSON line in, a JSON line out.
#include <iostream>

#include "cli/commands.h"
#include "cli/inference.h"
#include "cli/terminal.h"
#include "rlhf/core/log.h"

namespace rlhf::cli {
namespace {

struct TokenizeOptions {
  std::string model;
  std::optional<std::string> chat_template_path;
  bool add_special_tokens = false;
  bool skip_special_tokens = false;
};

/// Ids of a rendered conversation, with 1 where the assistant speaks. As the training encoder cuts
/// it: a new piece begins where an assistant's span begins, and tokens that end behind a span are
/// not the assistant's.
Json encode_chat(const Tokenizer& tokenizer, const Encoder& encoder, const RenderedChat& rendered) {
  std::vector<int32_t> ids;
  std::vector<uint8_t> mask;
  const auto encode = [&](size_t begin, size_t end) {
    const std::string_view piece = std::string_view(rendered.text).substr(begin, end - begin);
    return begin == 0 ? tokenizer.encode(piece) : encoder.continuation(piece);
  };
  const auto append = [&](const std::vector<int32_t>& piece, size_t marked) {
    ids.insert(ids.end(), piece.begin(), piece.end());
    mask.insert(mask.end(), marked, 1);
    mask.resize(ids.size(), 0);
  };
  const auto& spans = rendered.assistant;
  const size_t first = spans.empty() ? rendered.text.size() : spans.front().begin;
  if (first > 0) {
    append(encode(0, first), 0);
  }
  for (size_t i = 0; i < spans.size(); ++i) {
    const size_t end = i + 1 < spans.size() ? spans[i + 1].begin : rendered.text.size();
    const std::vector<int32_t> piece = encode(spans[i].begin, end);
    append(piece, spans[i].end >= end
                      ? piece.size()
                      : common_prefix_length(piece, encode(spans[i].begin, spans[i].end)));
  }
  return {{"text", rendered.text}, {"ids", ids}, {"assistant_mask", mask}};
}

/// The template's input; names it does not know itself (`enable_thinking`) become variables of the
/// template. UserError on values of another type.
ChatInput chat_input(const Json& row, const std::string& where) {
  ChatInput input;
  Problems problems;
  for (const auto& [name, value] : row.items()) {
    if (name == "messages") {
      input.messages = value;
    } else if (name == "tools") {
      input.tools = value;
    } else if (name == "documents") {
      input.documents = value;
    } else if (name == "add_generation_prompt" || name == "continue_final_message") {
      if (!value.is_boolean()) {
        problems.add(where, fmt::format("true or false was expected in `{}`, got {}.", name,
                                        value.type_name()));
        continue;
      }
      (name == "add_generation_prompt" ? input.add_generation_prompt
                                       : input.continue_final_message) = value.get<bool>();
    } else if (name == "chat_template_kwargs") {
      if (!value.is_object()) {
        problems.add(
            where, fmt::format("an object was expected in `{}`, got {}.", name, value.type_name()));
        continue;
      }
      input.variables.update(value);
    } else {
      input.variables[name] = value;
    }
  }
  problems.throw_if_any();
  return input;
}

class LineTokenizer {
 public:
  LineTokenizer(const TextSide& text, const TokenizeOptions& options)
      : text_(text),
        options_(options),
        encoder_(text.tokenizer, text.chat ? &*text.chat : nullptr, EncodeOptions{}) {}

  Json operator()(const std::string& line, const std::string& where) const {
    Record record;
    if (const auto problem =
            parse_record({.text = line, .line = 0, .position = 0}, "stdin", record)) {
      throw UserError(where, problem->what, problem->hint);
    }
    const Json& row = record.row;
    if (row.contains("messages")) {
      return chat(row, where);
    }
    if (row.contains("text") && row.at("text").is_string()) {
      return {{"ids", text_.tokenizer.encode(row.at("text").get_ref<const std::string&>(),
                                             options_.add_special_tokens)}};
    }
    if (row.contains("ids") && row.at("ids").is_array()) {
      return {{"text", text_.tokenizer.decode(known_ids(row.at("ids"), where),
                                              options_.skip_special_tokens)}};
    }
    throw UserError(where,
                    "an object with a text in `text`, a list in `ids`, or `messages` was expected.",
                    "one JSON object a line, such as {\"text\": \"...\"}.");
  }

 private:
  /// The ids of a row, each of them a token's.
  std::vector<int32_t> known_ids(const Json& row_ids, const std::string& where) const {
    std::vector<int32_t> ids;
    std::vector<std::string> unknown;
    for (const Json& id : row_ids) {
      const bool fits = id.is_number_integer() && id >= 0 && id <= INT32_MAX;
      if (fits && text_.tokenizer.has_token(id.get<int32_t>())) {
        ids.push_back(id.get<int32_t>());
      } else {
        unknown.push_back(id.dump());
      }
    }
    if (!unknown.empty()) {
      throw UserError(
          where,
          fmt::format(
              "ids of this tokenizer's tokens, all below {}, were expected in `ids`, got {}{}.",
              text_.tokenizer.vocab_size(), unknown.front(),
              unknown.size() == 1 ? "" : fmt::format(" and {} more", unknown.size() - 1)),
          "the ids and --model must belong together.");
    }
    return ids;
  }

  Json chat(const Json& row, const std::string& where) const {
    if (!text_.chat) {
      throw UserError(where, "a chat template was expected for `messages`, the tokenizer has none.",
                      "give one by --chat_template_path.");
    }
    const ChatInput input = chat_input(row, where);
    try {
      return encode_chat(text_.tokenizer, encoder_, text_.chat->render_with_spans(input));
    } catch (const UserError& error) {
      const std::string text = text_.chat->render(input);  // fails again where the template does
      log_warning("[{}] no assistant_mask: {}", where, error.problems().front().what);
      return {{"text", text}, {"ids", text_.tokenizer.encode(text)}, {"assistant_mask", nullptr}};
    }
  }

  const TextSide& text_;
  const TokenizeOptions& options_;
  Encoder encoder_;
};

}  // namespace

int run_tokenize(std::span<const std::string> args) {
  TokenizeOptions options;
  OptionSet set;
  set.add("model", options.model, "Folder with the tokenizer files; no weights are needed.");
  set.add("chat_template_path", options.chat_template_path,
          "A .jinja file, or a folder whose template is used.");
  set.add("add_special_tokens", options.add_special_tokens,
          "Add what the tokenizer puts around a text, such as BOS.");
  set.add("skip_special_tokens", options.skip_special_tokens,
          "Leave special tokens out of decoded text.");
  if (!read_arguments(set, args,
                      "Usage: rlhf tokenize --model DIR < in.jsonl > out.jsonl\n\n"
                      "{\"text\"} gives {\"ids\"}; {\"ids\"} gives {\"text\"}; {\"messages\", "
                      "\"tools\", \"add_generation_prompt\", ...} gives\n"
                      "{\"text\", \"ids\", \"assistant_mask\"} (null where the template does not "
                      "tell who speaks).",
                      {"model"})) {
    return 0;
  }
  const Terminal terminal;
  const TextSide text =
      load_text_side(options.model, {.chat_template_path = options.chat_template_path});
  const LineTokenizer tokenize(text, options);
  JsonLines lines(std::nullopt);
  std::string line;
  for (int64_t number = 1; std::getline(std::cin, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) {
      continue;
    }
    const std::string where = fmt::format("stdin:{}", number);
    try {
      lines.write(tokenize(line, where));
    } catch (const UserError& error) {
      std::vector<Problem> problems = error.problems();
      for (Problem& problem : problems) {
        if (!problem.where.starts_with(where)) {
          problem.where = fmt::format("{}: {}", where, problem.where);
        }
      }
      throw UserError(std::move(problems));
    }
  }
  lines.finish();
  return 0;
}

}  // namespace rlhf::cli
