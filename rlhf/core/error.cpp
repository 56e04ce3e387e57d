#include "rlhf/core/error.h"

#include <algorithm>
#include <numeric>

namespace rlhf {
namespace {

std::string join(const std::vector<Problem>& problems, size_t unlisted) {
  std::string text;
  for (const auto& problem : problems) {
    if (!text.empty()) text += '\n';
    text += problem.text();
  }
  if (unlisted > 0) {
    text += fmt::format("\n[and more] {} further problems of {} are not shown.", unlisted,
                        problems.size() + unlisted);
  }
  return text;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string Problem::text() const {
  std::string out = fmt::format("[{}] {}", where, what);
  if (!hint.empty()) out += " HINT: " + hint;
  return out;
}

UserError::UserError(std::vector<Problem> problems, size_t unlisted)
    : Error(join(problems, unlisted)), problems_(std::move(problems)), unlisted_(unlisted) {}

UserError::UserError(std::string where, std::string what, std::string hint)
    : UserError(std::vector<Problem>{{std::move(where), std::move(what), std::move(hint)}}) {}

void Problems::add(std::string where, std::string what, std::string hint) {
  add(Problem{std::move(where), std::move(what), std::move(hint)});
}

void Problems::add(const Problem& problem) {
  const bool said = std::any_of(problems_.begin(), problems_.end(), [&](const Problem& other) {
    return other.where == problem.where && other.what == problem.what;
  });
  if (said) return;
  if (count_++ < limit_) problems_.push_back(problem);
}

void Problems::add(const UserError& error) {
  for (const auto& problem : error.problems()) add(problem);
  count_ += error.unlisted();
}

void Problems::throw_if_any() const {
  if (count_ > 0) throw UserError(problems_, count_ - problems_.size());
}

void fail(std::string_view where, std::string_view what, std::string_view hint) {
  throw Error(Problem{std::string(where), std::string(what), std::string(hint)});
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, name.size() / 3) + 1;
  for (const auto& candidate : candidates) {
    const size_t distance = edit_distance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace rlhf
