#include "rlhf/rewards/accuracy.h"

#include <algorithm>
#include <string>

#include "rlhf/rewards/answer.h"
#include "rlhf/rewards/ascii.h"

namespace rlhf {
namespace {

/// Words of two letters and more that are no LaTeX command.
int prose_words(std::string_view text) {
  int words = 0;
  for (size_t i = 0; i < text.size();) {
    const bool command = text[i] == '\\';
    size_t end = command ? i + 1 : i;
    while (end < text.size() && is_letter(text[end])) {
      ++end;
    }
    words += !command && end - i >= 2;
    i = std::max(end, i + 1);
  }
  return words;
}

std::optional<Answer> parse_gold(std::string_view gold) {
  gold = trimmed(gold);
  for (const auto& found : {last_boxed(gold), after_hashes(gold)}) {
    if (found) {
      Answer answer = parse_answer(*found);
      return answer.text.empty() ? std::nullopt : std::optional(std::move(answer));
    }
  }
  Answer whole = parse_answer(gold);
  if (whole.value) {
    return whole;
  }
  if (const auto phrase = after_answer_phrase(gold)) {
    whole = parse_answer(*phrase);
    if (!whole.value) {
      if (const auto numbers = numbers_in(*phrase); !numbers.empty()) {
        whole = parse_answer(numbers.front());
      }
    }
    return whole.text.empty() ? std::nullopt : std::optional(std::move(whole));
  }
  if (whole.text.empty() || prose_words(gold) > 2) {
    return std::nullopt;
  }
  return whole;
}

/// A rest of a line as an answer of the gold's kind: where a number is wanted, the rest itself or
/// the first number in it.
std::optional<Answer> fitting(const std::string& text, bool number) {
  Answer answer = parse_answer(text);
  if (!number || answer.value) {
    return answer.text.empty() ? std::nullopt : std::optional(std::move(answer));
  }
  const auto numbers = numbers_in(text);
  return numbers.empty() ? std::nullopt : std::optional(parse_answer(numbers.front()));
}

std::optional<Answer> find_answer(std::string_view completion, bool number) {
  if (const auto boxed = last_boxed(completion)) {
    return parse_answer(*boxed);
  }
  if (const auto hashes = after_hashes(completion)) {
    Answer answer = parse_answer(*hashes);
    if (!answer.text.empty() && (!number || answer.value)) {  // else a Markdown heading
      return answer;
    }
  }
  if (const auto phrase = after_answer_phrase(completion)) {
    if (auto answer = fitting(*phrase, number)) {
      return answer;
    }
  }
  Answer whole = parse_answer(completion);
  if (!number || whole.value) {
    return whole;
  }
  const auto numbers = numbers_in(completion);
  return numbers.empty() ? std::nullopt : std::optional(parse_answer(numbers.back()));
}

}  // namespace

std::optional<double> accuracy(std::string_view completion, std::string_view gold) {
  const auto wanted = parse_gold(gold);
  if (!wanted) {
    return std::nullopt;
  }
  const auto found = find_answer(completion, wanted->value.has_value());
  return found && same_answer(*found, *wanted) ? 1.0 : 0.0;
}

double exact_match(std::string_view completion, std::string_view gold) {
  return trimmed(completion) == trimmed(gold) ? 1.0 : 0.0;
}

}  // namespace rlhf
