// What goes wrong, and whose fault it is.
//
// Every message reads `[where] what was expected, what was got. HINT: what to do.` The library
// throws; it never prints and never exits. The program maps UserError to exit code 2 and everything
// else to 1.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace rlhf {

/// One thing wrong with what the user gave: a key, a line of a data file, a tensor.
struct Problem {
  std::string where;  ///< `train.jsonl:17`, `model.safetensors: lm_head.weight`, `config.yaml:
                      ///< learning_rat`
  std::string what;   ///< what was expected and what was got; ends with a full stop
  std::string hint;   ///< what to do; may be empty

  /// `[where] what HINT: hint`
  std::string text() const;
};

/// Base of everything this library throws on purpose.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
  explicit Error(const Problem& problem) : std::runtime_error(problem.text()) {}
};

/// The user's fault: configuration, data, model folder, disk. Holds every problem found, not only
/// the first.
class UserError : public Error {
 public:
  /// `unlisted`: how many more there were whose texts were not kept.
  explicit UserError(std::vector<Problem> problems, size_t unlisted = 0);
  UserError(std::string where, std::string what, std::string hint = "");

  const std::vector<Problem>& problems() const { return problems_; }
  size_t unlisted() const { return unlisted_; }

 private:
  std::vector<Problem> problems_;
  size_t unlisted_;
};

/// Collects problems so that all are reported at once.
class Problems {
 public:
  /// Keeps at most `limit` texts (the count stays exact), so that a broken file of a million lines
  /// stays readable.
  explicit Problems(size_t limit = 50) : limit_(limit) {}

  /// What two checks meet is said once.
  void add(std::string where, std::string what, std::string hint = "");
  void add(const Problem& problem);
  /// Takes over the problems of an error caught elsewhere.
  void add(const UserError& error);
  bool empty() const { return count_ == 0; }
  size_t count() const { return count_; }

  /// Throws UserError with everything collected, if there is anything.
  void throw_if_any() const;

 private:
  size_t limit_;
  size_t count_ = 0;
  std::vector<Problem> problems_;
};

/// Throws Error: a broken promise inside the library or a caller's wrong argument.
[[noreturn]] void fail(std::string_view where, std::string_view what, std::string_view hint = "");

/// Throws Error unless `ok`. The message is formatted only on failure.
template <class... Args>
void check(bool ok, std::string_view where, fmt::format_string<Args...> what, Args&&... args) {
  if (!ok) [[unlikely]] {
    fail(where, fmt::format(what, std::forward<Args>(args)...));
  }
}

/// The candidate nearest to `name` by edit distance, or empty where none is near enough to be
/// meant.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace rlhf
