// Damaged, hostile and unsupported files: every problem named, no crash.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>

#include "rlhf/core/error.h"
#include "rlhf/text/tokenizer.h"

namespace rlhf {
namespace {

Json minimal() {
  return Json::parse(
      R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})");
}

/// The problems of loading, one a line; empty when it loads.
std::string problems(const Json& file, const Json& config = nullptr) {
  try {
    Tokenizer::from_json(file, config);
    return "";
  } catch (const UserError& error) {
    std::string all;
    for (const Problem& problem : error.problems()) {
      all += problem.text() + "\n";
    }
    return all;
  }
}

bool mentions(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST(TokenizerErrors, AMinimalFileLoads) { EXPECT_EQ(problems(minimal()), ""); }

TEST(TokenizerErrors, NamesEveryUnsupportedPart) {
  Json file = minimal();
  file["normalizer"] = {{"type", "Sequence"},
                        {"normalizers", {{{"type", "NFC"}}, {{"type", "Mystery"}}}}};
  file["pre_tokenizer"] = {{"type", "UnicodeScripts"}};
  file["post_processor"] = {{"type", "Other"}};
  file["decoder"] = {{"type", "CTC"}};
  file["model"]["dropout"] = 0.1;
  const std::string all = problems(file);
  for (const char* const part :
       {"normalizer.normalizers[1]", "Mystery", "StripAccents", "UnicodeScripts", "Metaspace",
        "Other", "TemplateProcessing", "CTC", "WordPiece", "dropout"}) {
    EXPECT_TRUE(mentions(all, part)) << part << "\n" << all;
  }
  file = minimal();
  file["model"]["type"] = "Morphemes";
  EXPECT_TRUE(mentions(problems(file), "Unigram"));
}

TEST(TokenizerErrors, NamesEveryBadEntryOfTheTables) {
  Json file = minimal();
  file["model"]["vocab"]["negative"] = -1;
  file["model"]["vocab"]["huge"] = 4'000'000'000u;
  file["model"]["vocab"]["text"] = "7";
  file["model"]["vocab"]["again"] = 2;
  file["model"]["merges"] = {"a b", "a c", "abc", "a b c", {"a"}, {"a", "b", "c"}, 5, {"b", "b"}};
  const std::string all = problems(file);
  for (const char* const part :
       {"negative", "huge", "`text`", "`ab` and `again` have the same id 2", "`c`", "\"abc\"",
        "\"a b c\"", "[\"a\"]", "[\"a\",\"b\",\"c\"]", "got 5", "`bb`"}) {
    EXPECT_TRUE(mentions(all, part)) << part << "\n" << all;
  }
}

TEST(TokenizerErrors, ChecksFieldsAndReferences) {
  const auto with = [](const char* key, const char* part) {
    Json file = minimal();
    file[key] = Json::parse(part);
    return problems(file);
  };
  EXPECT_TRUE(
      mentions(with("pre_tokenizer",
                    R"({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"})"),
               "does not compile"));
  EXPECT_TRUE(
      mentions(with("pre_tokenizer", R"({"type": "Split", "pattern": "x", "behavior": "Odd"})"),
               "behavior"));
  EXPECT_TRUE(mentions(
      with("pre_tokenizer", R"({"type": "Split", "pattern": "x", "behavior": "Odd"})"), "pattern"));
  EXPECT_TRUE(mentions(with("pre_tokenizer", R"({"type": "Metaspace", "replacement": "ab"})"),
                       "one character"));
  EXPECT_TRUE(mentions(with("pre_tokenizer", R"({"type": "Metaspace", "prepend_scheme": "last"})"),
                       "prepend_scheme"));
  EXPECT_TRUE(mentions(with("pre_tokenizer", R"([1])"), "object"));
  EXPECT_TRUE(mentions(
      with("normalizer", R"({"type": "Precompiled", "precompiled_charsmap": "!"})"), "base64"));
  EXPECT_TRUE(
      mentions(with("normalizer", R"({"type": "Precompiled", "precompiled_charsmap": "/////w=="})"),
               "trie"));
  EXPECT_TRUE(mentions(with("decoder", R"({"type": "Strip", "content": "ab", "start": -1})"),
                       "one character"));
  EXPECT_TRUE(
      mentions(with("decoder", R"({"type": "Strip", "content": "ab", "start": -1})"), "start"));
  EXPECT_TRUE(mentions(
      with("post_processor",
           R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}]})"),
      "<s>"));
  EXPECT_TRUE(mentions(
      with("post_processor", R"({"type": "BertProcessing", "sep": ["x", -1], "cls": 3})"), "cls"));
  EXPECT_TRUE(
      mentions(with("added_tokens", R"([{"id": -3, "special": "yes"}, 7])"), "added_tokens[1]"));
  EXPECT_TRUE(mentions(with("added_tokens", R"({})"), "array"));
  EXPECT_TRUE(
      mentions(with("model", R"({"type": "BPE", "vocab": {"a": 0}, "unk_token": "x"})"), "`x`"));
  EXPECT_TRUE(mentions(with("model", R"({"type": "BPE"})"), "vocab"));
  EXPECT_TRUE(mentions(with("model", R"({"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 1})"),
                       "unk_id"));
  EXPECT_TRUE(
      mentions(with("model", R"({"type": "Unigram", "vocab": [["a"], [1, 2]]})"), "entry 1"));
  EXPECT_TRUE(mentions(with("model", "null"), "model"));
  EXPECT_TRUE(mentions(problems(Json::array()), "object"));
  EXPECT_TRUE(mentions(problems(minimal(), Json::array()), "tokenizer_config.json"));
  EXPECT_TRUE(mentions(
      problems(minimal(), {{"added_tokens_decoder", {{"-1", {{"content", "x"}}}}}}), "-1"));
  EXPECT_TRUE(mentions(problems(minimal(), {{"bos_token", 5}}), "bos_token"));
  EXPECT_TRUE(
      mentions(problems(minimal(), {{"extra_special_tokens", "x"}}), "extra_special_tokens"));
}

TEST(TokenizerErrors, RefusesDeepNesting) {
  Json part = {{"type", "NFC"}};
  for (int i = 0; i < 100; ++i) {
    part = {{"type", "Sequence"}, {"normalizers", Json::array({part})}};
  }
  Json file = minimal();
  file["normalizer"] = part;
  EXPECT_TRUE(mentions(problems(file), "levels deep"));
}

class TokenizerFolder : public testing::Test {
 protected:
  fs::path folder_ = fs::path(testing::TempDir()) / "rlhf_tokenizer_errors";
  void SetUp() override {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void overwrite(const std::string& text) const {
    std::ofstream(folder_ / "tokenizer.json") << text;
  }

  std::string problem(const std::string& text) const {
    overwrite(text);
    try {
      Tokenizer::load(folder_);
      return "";
    } catch (const UserError& error) {
      return error.what();
    }
  }
};

TEST_F(TokenizerFolder, SaysWhatIsMissingOrCutOff) {
  try {
    Tokenizer::load(folder_);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_TRUE(mentions(error.what(), "a tokenizer.json (or tokenizer.json.gz) was expected"));
  }
  EXPECT_EQ(problem(minimal().dump()), "");
  const std::string whole = minimal().dump();
  for (size_t n = 0; n < whole.size(); ++n) {
    EXPECT_TRUE(mentions(problem(whole.substr(0, n)), "tokenizer.json")) << n;
  }
  EXPECT_TRUE(mentions(problem(std::string(100'000, '[')), "deep"));
  EXPECT_TRUE(mentions(problem("{\"a\": \"\xFF\"}"), "tokenizer.json"));
  write_file(folder_ / "tokenizer_config.json", "{\"a\": " + std::string(100'000, '['));
  EXPECT_TRUE(mentions(problem(whole), "got 100001"));
  write_file(folder_ / "tokenizer_config.json", "[");
  EXPECT_TRUE(mentions(problem(whole), "tokenizer_config.json"));
}

}  // namespace
}  // namespace rlhf
