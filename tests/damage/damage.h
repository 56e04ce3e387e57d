// Damage to real inputs, the same for the same stream: what a bad disk, a cut download, an editor
// or a hostile giver makes of them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <string>
#include <string_view>

#include "rlhf/core/error.h"
#include "rlhf/core/json.h"
#include "rlhf/core/random.h"

namespace rlhf {

/// `text` after one to four damages: cut off, bits flipped, spans removed, repeated, moved or
/// replaced.
inline std::string damaged(std::string text, Random& random) {
  static const std::string kHostile[] = {"\xFF",
                                         "\xC3",
                                         std::string(1, '\0'),
                                         "\xEF\xBB\xBF",
                                         "\xED\xA0\x80",
                                         "\n",
                                         "\"",
                                         "\\",
                                         "\\ud800",
                                         "\\u0000",
                                         "{",
                                         "}",
                                         "[",
                                         "]",
                                         ":",
                                         ",",
                                         "null",
                                         "true",
                                         "-1",
                                         "1e999",
                                         "18446744073709551616",
                                         "-9223372036854775808",
                                         "{{",
                                         "}}",
                                         "{%",
                                         "%}",
                                         "{%-",
                                         "- ",
                                         "&a ",
                                         "*a",
                                         "|",
                                         ">",
                                         "'",
                                         "#",
                                         "--",
                                         std::string(3000, '['),
                                         std::string(3000, '{'),
                                         std::string(3000, '('),
                                         std::string(3000, ' ')};
  for (uint64_t left = 1 + random.below(4); left > 0 && !text.empty(); --left) {
    const size_t at = random.below(text.size());
    const size_t length = 1 + random.below(std::min<size_t>(40, text.size() - at));
    switch (random.below(6)) {
      case 0:
        text.resize(at);
        break;
      case 1:
        text[at] = static_cast<char>(text[at] ^ (1 << random.below(8)));
        break;
      case 2:
        text.erase(at, length);
        break;
      case 3:
        text.insert(at, text.substr(at, length));
        break;
      case 4: {
        const std::string span = text.substr(at, length);
        text.erase(at, length);
        text.insert(random.below(text.size() + 1), span);
        break;
      }
      default:
        text.replace(at, random.below(2) * length, kHostile[random.below(std::size(kHostile))]);
    }
  }
  return text;
}

/// `root` with one value somewhere, more often near the top, replaced by one of another kind or
/// size, or by a copy of another part.
inline Json damaged(Json root, Random& random) {
  const auto pick = [&]() -> Json& {
    Json* node = &root;
    while (node->is_structured() && !node->empty() && random.below(5) != 0) {
      auto child = node->begin();
      std::advance(child, static_cast<std::ptrdiff_t>(random.below(node->size())));
      node = &*child;
    }
    return *node;
  };
  static const Json kHostile[] = {nullptr,
                                  true,
                                  false,
                                  0,
                                  1,
                                  -1,
                                  0.5,
                                  4294967296,
                                  std::numeric_limits<int64_t>::min(),
                                  std::numeric_limits<uint64_t>::max(),
                                  1e308,
                                  "",
                                  "a",
                                  std::string(1, '\0'),
                                  std::string(5000, 'a'),
                                  "\xF0\x9F\x98\x80\u0301",
                                  Json::array(),
                                  Json::object(),
                                  Json::array({Json::array()}),
                                  Json::array({"a", "b", "c"}),
                                  {{"type", "Sequence"}},
                                  {{"content", nullptr}}};
  constexpr size_t kKinds = std::size(kHostile);
  const uint64_t kind = random.below(kKinds + 4);
  Json value = kind < kKinds ? kHostile[kind] : pick();
  pick() = std::move(value);
  return root;
}

/// Counts what inputs get: an answer, or a UserError whose every problem has a place and a text.
/// Anything else fails the test.
class Verdicts {
 public:
  template <class Action>
  void expect(std::string_view input, Action action) {
    std::string fault;
    try {
      action();
      ++answered_;
    } catch (const UserError& error) {
      ++refused_;
      if (error.problems().empty()) fault = "a UserError without a problem";
      for (const Problem& problem : error.problems()) {
        if (problem.where.empty() || problem.what.empty()) {
          fault = "a problem without a place or text: " + problem.text();
        }
      }
    } catch (const std::exception& error) {
      fault = error.what();
    } catch (...) {
      fault = "thrown, and no std::exception";
    }
    if (!fault.empty()) ADD_FAILURE() << fault << "\nfor the input\n" << input.substr(0, 2000);
  }

  /// Damage that always or never matters tests nothing: each outcome must make up a share of
  /// `least`.
  void expect_both(double least) const {
    const double all = answered_ + refused_;
    EXPECT_GE(answered_, least * all);
    EXPECT_GE(refused_, least * all);
  }

 private:
  int answered_ = 0;
  int refused_ = 0;
};

}  // namespace rlhf
