#include "rlhf/text/chat_spans.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "rlhf/text/jinja_text.h"

namespace rlhf::jinja {
namespace {

constexpr std::string_view kMarkHint =
    "put '{% generation %}' and '{% endgeneration %}' around the assistant's words in the "
    "template, or give prompt "
    "and completion apart.";

std::optional<Rendering> try_render(const Conversation& chat, size_t count,
                                    bool add_generation_prompt) {
  try {
    return render(chat, count, add_generation_prompt);
  } catch (const Fault&) {
    return std::nullopt;  // a template may refuse a conversation cut short
  }
}

std::string_view text_of(const Rendering& rendering, const Piece& piece) {
  return std::string_view(rendering.text).substr(piece.begin, piece.end - piece.begin);
}

/// The output of `with` from piece `i` on, without what `without` has alike from piece `j` on.
std::string rest_from(const Rendering& with, size_t i, const Rendering& without, size_t j) {
  for (; i < with.pieces.size() && j < without.pieces.size(); ++i, ++j) {
    if (with.pieces[i].source != without.pieces[j].source) break;
    if (text_of(with, with.pieces[i]) != text_of(without, without.pieces[j])) break;
  }
  return i < with.pieces.size() ? with.text.substr(with.pieces[i].begin) : "";
}

/// Index of the first piece after all that were written for a message.
size_t tail_of(const Rendering& rendering) {
  size_t tail = rendering.pieces.size();
  while (tail > 0 && rendering.pieces[tail - 1].message < 0) --tail;
  return tail;
}

/// What the generation prompt adds. It usually stands after all messages; a template may also write
/// the last message otherwise then, so the whole is compared only where nothing is added there.
std::string added_prompt(const Rendering& with, const Rendering& without) {
  std::string added = rest_from(with, tail_of(with), without, tail_of(without));
  return added.empty() ? rest_from(with, 0, without, 0) : added;
}

/// The output written for message `index`, in contiguous runs.
Spans runs_of(const Rendering& full, int index) {
  Spans runs;
  for (const Piece& piece : full.pieces) {
    if (piece.message != index) continue;
    if (!runs.empty() && runs.back().second == piece.begin) {
      runs.back().second = piece.end;
    } else {
      runs.emplace_back(piece.begin, piece.end);
    }
  }
  return runs;
}

/// Bytes of `prompt` that `turn` begins with: all of it, or up to the end of the last whole tag or
/// line in common.
size_t shared_prompt(std::string_view prompt, std::string_view turn) {
  if (turn.starts_with(prompt)) return prompt.size();
  const auto differs = std::mismatch(prompt.begin(), prompt.end(), turn.begin(), turn.end());
  auto common = static_cast<size_t>(differs.first - prompt.begin());
  while (common > 0 && std::string_view(">]\n").find(prompt[common - 1]) == std::string_view::npos)
    --common;
  return common;
}

bool is_assistant(const Value& message) {
  const Value* role = message.as_dict().find("role");
  return role && role->is(Type::string) && role->as_string() == "assistant";
}

class SpanFinder {
 public:
  SpanFinder(const Conversation& chat, const Rendering& full, bool prompt_at_end)
      : chat_(chat), full_(full), prompt_at_end_(prompt_at_end) {}

  void add_turn(size_t index, Spans& out) const {
    const std::optional<Rendering> before =
        try_render(chat_, index, /*add_generation_prompt=*/true);
    Spans runs = runs_of(full_, static_cast<int>(index));
    if (runs.empty()) return add_by_prefix(index, before, out);
    const size_t begin = past_header(index, begin_of(index, runs, before), runs);
    extend_to_tail(index, begin, runs);
    runs.back().second = std::max(
        begin, strip(std::string_view(full_.text).substr(0, runs.back().second), kRight).size());
    const size_t had = out.size();
    for (const auto& [from, to] : runs) {
      if (std::max(from, begin) < to) out.emplace_back(std::max(from, begin), to);
    }
    if (out.size() == had) {
      throw Fault{
          fmt::format("message {} is the assistant's, but the template writes nothing of it.",
                      index),
          "remove the message, give it content, or use another template."};
    }
  }

 private:
  size_t begin_of(size_t index, const Spans& runs, const std::optional<Rendering>& before) const {
    const bool is_prefix = before && !before->text.empty() && full_.text.starts_with(before->text);
    if (is_prefix && before->text.size() <= runs.back().second) {
      return std::max(before->text.size(), runs.front().first);
    }
    const std::string prompt = prompt_of(index, before);
    const std::string_view turn =
        std::string_view(full_.text)
            .substr(runs.front().first, runs.back().second - runs.front().first);
    if (index == 0 &&
        !prompt
             .empty()) {  // a preamble (begin-of-text, default system message) opens the first turn
      const size_t at = turn.find(prompt);
      if (at != std::string_view::npos) return runs.front().first + at + prompt.size();
    }
    return runs.front().first + shared_prompt(prompt, turn);
  }

  /// Where the generation prompt adds nothing here (after tool results, say) and yet the turn opens
  /// with the header that it gives before other turns, that header is a prompt here too.
  size_t past_header(size_t index, size_t begin, const Spans& runs) const {
    if (begin != runs.front().first) return begin;
    for (const std::string& prompt : prompts_before_others(index)) {
      const bool opens = std::string_view(full_.text).substr(begin).starts_with(prompt);
      if (opens && begin + prompt.size() < runs.back().second) return begin + prompt.size();
    }
    return begin;
  }

  std::vector<std::string> prompts_before_others(size_t index) const {
    std::vector<std::string> out;
    for (size_t other = 0; other < chat_.messages.size(); ++other) {
      if (other == index || !is_assistant(chat_.messages[other])) continue;
      const auto with = try_render(chat_, other, /*add_generation_prompt=*/true);
      const auto without = try_render(chat_, other, /*add_generation_prompt=*/false);
      std::string prompt = with && without ? added_prompt(*with, *without) : "";
      const bool known = std::find(out.begin(), out.end(), prompt) != out.end();
      if (!prompt.empty() && !known) out.push_back(std::move(prompt));
    }
    return out;
  }

  std::string prompt_of(size_t index, const std::optional<Rendering>& before) const {
    std::optional<Rendering> without;
    if (before) without = try_render(chat_, index, /*add_generation_prompt=*/false);
    if (before && without) return added_prompt(*before, *without);
    // The conversation cannot be cut here (it begins with the assistant): ask what comes after the
    // whole of it.
    const auto with_all = try_render(chat_, chat_.messages.size(), /*add_generation_prompt=*/true);
    const auto without_all =
        try_render(chat_, chat_.messages.size(), /*add_generation_prompt=*/false);
    if (with_all && without_all) return added_prompt(*with_all, *without_all);
    throw Fault{
        fmt::format(
            "the generation prompt before message {} cannot be found: the template refuses the "
            "messages before it.",
            index),
        std::string(kMarkHint)};
  }

  /// What follows the last turn (an end-of-text token) belongs to it, but not a generation prompt.
  void extend_to_tail(size_t index, size_t begin, Spans& runs) const {
    if (index + 1 != chat_.messages.size() || prompt_at_end_) return;
    const size_t end = runs.back().second;
    const bool outside =
        std::all_of(full_.pieces.begin(), full_.pieces.end(),
                    [&](const Piece& piece) { return piece.begin < end || piece.message < 0; });
    const std::string_view header =
        std::string_view(full_.text).substr(runs.front().first, begin - runs.front().first);
    const bool is_prompt =
        !header.empty() && std::string_view(full_.text).substr(end).starts_with(header);
    if (outside && !is_prompt) runs.back().second = full_.text.size();
  }

  /// For templates whose loops bind no message: the text grows with each message, or the turn
  /// cannot be found.
  void add_by_prefix(size_t index, const std::optional<Rendering>& before, Spans& out) const {
    const auto after = try_render(chat_, index + 1, /*add_generation_prompt=*/false);
    const bool grows = before && after && full_.text.starts_with(before->text) &&
                       full_.text.starts_with(after->text);
    const size_t end = grows ? strip(after->text, kRight).size() : 0;
    if (!grows || end <= before->text.size()) {
      throw Fault{
          fmt::format(
              "which part of the text is message {} (the assistant's) cannot be determined.",
              index),
          std::string(kMarkHint)};
    }
    out.emplace_back(before->text.size(), end);
  }

  const Conversation& chat_;
  const Rendering& full_;
  bool prompt_at_end_;
};

}  // namespace

Rendering render(const Conversation& chat, size_t count, bool add_generation_prompt) {
  Variables variables;
  variables.reserve(chat.variables.size() + 2);
  const auto stop = chat.messages.begin() + static_cast<ptrdiff_t>(count);
  variables.emplace_back("messages", Value::list({chat.messages.begin(), stop}));
  variables.emplace_back("add_generation_prompt", Value::boolean(add_generation_prompt));
  variables.insert(variables.end(), chat.variables.begin(), chat.variables.end());
  std::vector<const Dict*> dicts;
  for (const Value& message : chat.messages) dicts.push_back(&message.as_dict());
  return Run(*chat.program, variables, dicts, chat.clock).render();
}

Spans marked_spans(const Rendering& full) {
  if (full.lost_generation) {
    throw Fault{
        "a '{% generation %}' block inside a macro, a filter block or a block set has no known "
        "place.",
        "move the marks to where the macro or variable is written."};
  }
  return full.generations;
}

Spans assistant_spans(const Conversation& chat, const Rendering& full, bool add_generation_prompt) {
  Spans out;
  const SpanFinder finder(chat, full, add_generation_prompt);
  for (size_t i = 0; i < chat.messages.size(); ++i) {
    if (is_assistant(chat.messages[i])) finder.add_turn(i, out);
  }
  std::sort(out.begin(), out.end());
  for (size_t i = 1; i < out.size(); ++i) {
    if (out[i].first < out[i - 1].second) {
      throw Fault{"the spans of two assistant messages overlap.", std::string(kMarkHint)};
    }
  }
  return out;
}

}  // namespace rlhf::jinja
