#include "rlhf/report/json_lines.h"

#include <limits>

#include "rlhf/core/error.h"
#include "rlhf/core/json_text.h"
#include "rlhf/core/utf8.h"

namespace rlhf {
namespace {

constexpr int64_t kListed = 3;
constexpr int64_t kLargestStep = int64_t{1} << 53;  // JavaScript's numbers are doubles

/// The row, or a problem.
Json step_row(const std::string& line, const std::string& where) {
  Json row = parse_json(replace_invalid_utf8(line), where);
  const auto step = row.is_object() ? row.find("step") : row.end();
  if (step == row.end() || !step->is_number_integer() || *step < 0 || *step > kLargestStep) {
    throw UserError(where, "an object with the number of a step in `step` was expected.");
  }
  return row;
}

}  // namespace

void for_each_step_line(std::istream& lines, const std::string& where,
                        std::vector<std::string>& notes,
                        const std::function<void(const Json& row, int64_t position)>& use) {
  int64_t number = 0;
  int64_t position = 0;
  int64_t unusable = 0;
  for (std::string line; std::getline(lines, line); ++number) {
    const bool whole = !lines.eof();
    const int64_t start = position;
    position += std::ssize(line) + 1;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    Json row;
    try {
      row = step_row(line, fmt::format("{}:{}", where, number + 1));
    } catch (const UserError& error) {
      if (!whole) {
        notes.push_back(Problem{.where = fmt::format("{}:{}", where, number + 1),
                                .what = "the last line is cut off, it was left out.",
                                .hint = "the run is still writing it, or was killed while it did."}
                            .text());
      } else if (++unusable <= kListed) {
        const Problem& problem = error.problems().front();
        notes.push_back(fmt::format("[{}] {} The line was left out.", problem.where, problem.what));
      }
      continue;
    }
    use(row, start);
  }
  if (unusable > kListed)
    notes.push_back(fmt::format("[{}] {} more lines were left out.", where, unusable - kListed));
}

double number_or_nan(const Json& row, const std::string& key) {
  const auto found = row.find(key);
  return found != row.end() && found->is_number() ? found->get<double>()
                                                  : std::numeric_limits<double>::quiet_NaN();
}

std::string text_or_empty(const Json& row, const std::string& key) {
  const auto found = row.find(key);
  return found != row.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace rlhf
