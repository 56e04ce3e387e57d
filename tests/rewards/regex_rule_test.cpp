// The rule `regex`: what Perl's syntax says of short texts, worked by hand.
#include "rlhf/rewards/regex_rule.h"

#include <gtest/gtest.h>

#include "rlhf/rewards/rules.h"

namespace rlhf {
namespace {

bool matches(const std::string& pattern, std::string_view text, const std::string& flags = "",
             bool full = false) {
  return RegexRule(pattern, flags, full, "regex").matches(text);
}

std::string refusal(const Json& entry) {
  Problems problems;
  read_reward_rules(entry, /*longest=*/100, problems);
  try {
    problems.throw_if_any();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(RegexRule, FindsAMatchAnywhere) {
  EXPECT_TRUE(matches("b+c", "aabbcd"));
  EXPECT_FALSE(matches("b+c", "aabbd"));
  EXPECT_TRUE(matches("^<a>.*</a>$", "<a>1</a>"));
  EXPECT_FALSE(matches("^<a>.*</a>$", " <a>1</a>"));
  EXPECT_FALSE(matches("a", ""));
  EXPECT_TRUE(matches("^$", ""));
}

TEST(RegexRule, FlagsMeanWhatTheyMeanInPerl) {
  EXPECT_FALSE(matches("yes", "YES"));
  EXPECT_TRUE(matches("yes", "YES", "i"));
  EXPECT_FALSE(matches("a.b", "a\nb"));
  EXPECT_TRUE(matches("a.b", "a\nb", "s"));
  EXPECT_FALSE(matches("^b$", "a\nb\nc"));
  EXPECT_TRUE(matches("^b$", "a\nb\nc", "m"));
  EXPECT_FALSE(matches("a b", "ab"));
  EXPECT_TRUE(matches("a b", "ab", "x"));
  EXPECT_TRUE(matches("^a . b$", "x\nA\nB", "ismx"));
}

// `a|ab` finds `a` first; that the whole of `ab` must match makes it go on to the second branch.
TEST(RegexRule, FullIsTheWholeText) {
  EXPECT_TRUE(matches("a|ab", "ab", "", /*full=*/true));
  EXPECT_FALSE(matches("a|ab", "abc", "", /*full=*/true));
  EXPECT_FALSE(matches("b", "ab", "", /*full=*/true));
  EXPECT_FALSE(matches("a$", "a\n", "", /*full=*/true));
  EXPECT_TRUE(matches("a$", "a\n"));
}

TEST(RegexRule, CharactersAreThoseOfUnicode) {
  EXPECT_TRUE(matches("^.$", "\u00e9"));           // é: one character, two bytes
  EXPECT_TRUE(matches("^\\w+$", "\u00e9\u00df"));  // letters
  EXPECT_TRUE(matches("\u00c9", "\u00e9", "i"));   // É and é
  EXPECT_TRUE(matches("^\\d$", "\u0663"));         // Arabic 3
}

// 0xC3 begins a character of two bytes and `(` does not go on with it.
TEST(RegexRule, BytesThatAreNoUtf8MatchNothing) {
  const std::string_view broken = "ab\xC3(cd";
  EXPECT_TRUE(matches("ab", broken));
  EXPECT_TRUE(matches("cd$", broken));
  EXPECT_FALSE(matches("b.", broken));
  EXPECT_FALSE(matches(".*", broken, "s", /*full=*/true));
  EXPECT_FALSE(matches("a", "\xff"));
}

// Each a may or may not begin a group: 2^39 ways to fail from the first alone.
TEST(RegexRule, StopsWhatWouldNotEnd) {
  const std::string text = std::string(40, 'a') + "b";
  try {
    matches("(a+)+$", text);
    FAIL() << "the search ended";
  } catch (const UserError&) {
    FAIL() << "one completion is not the user's fault";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("limit"), std::string::npos) << error.what();
  }
  EXPECT_TRUE(matches("(a+)+", text));
}

// More than the JIT's stack holds: each character keeps a place to go back to.
TEST(RegexRule, LongTextsAreSearched) {
  const std::string text(100000, 'a');
  EXPECT_TRUE(matches("^(?:a|b)*$", text));
  EXPECT_FALSE(matches("^(?:a|b)*c$", text + "cd"));
}

TEST(RegexRule, IsReadFromTheConfiguration) {
  Problems problems;
  const auto rules =
      read_reward_rules(Json::parse(R"([{"name": "regex", "pattern": "^a.b$", "flags": "s"},
                      {"name": "whole", "pattern": "a", "full": true}])"),
                        /*longest=*/100, problems);
  ASSERT_TRUE(problems.empty());
  ASSERT_EQ(rules.size(), 2U);
  EXPECT_EQ(rules[1].name, "whole");
  EXPECT_TRUE(rules[0].columns.empty());
  const Json columns = Json::object();
  const auto score = [&](size_t rule, std::string_view text) {
    return rules[rule].score({.text = text, .ids = {}, .columns = columns});
  };
  EXPECT_EQ(score(0, "a\nb"), 1.0);
  EXPECT_EQ(score(0, "ab"), 0.0);
  EXPECT_EQ(score(1, "a"), 1.0);
  EXPECT_EQ(score(1, "aa"), 0.0);
}

TEST(RegexRule, RefusesWhatIsNoPattern) {
  EXPECT_NE(refusal("regex").find("[reward_funcs.regex] a `pattern` was expected"),
            std::string::npos);
  // The parenthesis that is missing is noticed at the end, byte 3.
  const auto open = refusal({{"name", "regex"}, {"pattern", "a(b"}});
  EXPECT_NE(open.find("[reward_funcs.regex.pattern]"), std::string::npos) << open;
  EXPECT_NE(open.find("missing closing parenthesis (at byte 3)"), std::string::npos) << open;
  const auto flags = refusal({{"name", "regex"}, {"pattern", "a"}, {"flags", "ig"}});
  EXPECT_NE(flags.find("got \"ig\""), std::string::npos) << flags;
  EXPECT_THROW(matches("\xff", "a"), UserError);
  EXPECT_NE(refusal({{"name", "regex"}, {"patern", "a"}}).find("pattern"), std::string::npos);
}

}  // namespace
}  // namespace rlhf
