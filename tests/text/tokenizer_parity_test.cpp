// Against what transformers and `tokenizers` make of the same folders and texts
// (tools/make_tokenizers.py).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "rlhf/core/file.h"
#include "rlhf/core/json.h"
#include "rlhf/text/tokenizer.h"
#include "rlhf/text/unicode.h"
#include "tests/support/gzip.h"

namespace rlhf {
namespace {

using Ids = std::vector<int32_t>;

fs::path fixtures() { return fs::path(RLHF_FIXTURES) / "text"; }

fs::path data_folder() {
  const char* const set = std::getenv("RLHF_DATA");
  return set != nullptr ? fs::path(set) : fs::path(RLHF_FIXTURES) / "../../../shared/data";
}

const Json& cases() {
  static const Json document = read_gzip_json(fixtures() / "tokenizer_cases.json.gz");
  return document;
}

std::vector<std::string> texts() { return cases()["texts"].get<std::vector<std::string>>(); }

class SmallTokenizer : public testing::TestWithParam<std::string> {
 protected:
  Tokenizer tokenizer_ = Tokenizer::load(fixtures() / ("tokenizer_" + GetParam()));
  const Json& expected_ = cases()["small"][GetParam()];

  /// Rows of ids that the expected texts belong to: the encoded texts, then random ids.
  std::vector<Ids> rows() const {
    auto all = expected_["special_ids"].get<std::vector<Ids>>();
    for (const Json& row : expected_["rows"]) {
      all.push_back(row.get<Ids>());
    }
    return all;
  }
};

TEST_P(SmallTokenizer, EncodesAsTransformers) {
  const auto ids = expected_["ids"].get<std::vector<Ids>>();
  const auto special_ids = expected_["special_ids"].get<std::vector<Ids>>();
  const auto all = texts();
  ASSERT_EQ(all.size(), ids.size());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(tokenizer_.encode(all[i], /*add_special_tokens=*/false), ids[i])
        << Json(all[i]).dump();
    EXPECT_EQ(tokenizer_.encode(all[i], /*add_special_tokens=*/true), special_ids[i])
        << Json(all[i]).dump();
  }
  EXPECT_EQ(tokenizer_.encode_batch(all, /*add_special_tokens=*/true), special_ids);
}

TEST_P(SmallTokenizer, DecodesAsTransformers) {
  const auto decoded = expected_["decoded"].get<std::vector<std::string>>();
  const auto skipped = expected_["skipped"].get<std::vector<std::string>>();
  const auto all = rows();
  ASSERT_EQ(all.size(), decoded.size());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(tokenizer_.decode(all[i], /*skip_special_tokens=*/false), decoded[i])
        << Json(all[i]).dump();
    EXPECT_EQ(tokenizer_.decode(all[i], /*skip_special_tokens=*/true), skipped[i])
        << Json(all[i]).dump();
  }
}

TEST_P(SmallTokenizer, KnowsSizeAndNamedTokens) {
  EXPECT_EQ(tokenizer_.vocab_size(), expected_["size"].get<int64_t>());
  const std::map<std::string, std::pair<std::string, std::optional<int32_t>>> named = {
      {"bos_token", {tokenizer_.bos_token(), tokenizer_.bos_id()}},
      {"eos_token", {tokenizer_.eos_token(), tokenizer_.eos_id()}},
      {"pad_token", {tokenizer_.pad_token(), tokenizer_.pad_id()}},
      {"unk_token", {tokenizer_.unk_token(), tokenizer_.unk_id()}}};
  for (const auto& [name, token] : named) {
    const Json& want = expected_["named"][name];
    // Class defaults of transformers (a Qwen2Tokenizer's unk_token) are not followed: only the
    // configuration names.
    if (!tokenizer_.config().contains(name)) {
      EXPECT_EQ(token.first, "") << name;
      EXPECT_FALSE(token.second) << name;
      continue;
    }
    EXPECT_EQ(token.first, want[0].is_null() ? "" : want[0].get<std::string>()) << name;
    EXPECT_EQ(token.second,
              want[1].is_null() ? std::nullopt : std::optional(want[1].get<int32_t>()))
        << name;
    if (token.second) {
      EXPECT_TRUE(tokenizer_.is_special(*token.second)) << name;
      EXPECT_EQ(tokenizer_.token_to_id(token.first), token.second);
      EXPECT_EQ(tokenizer_.id_to_token(*token.second), token.first);
    }
  }
}

TEST_P(SmallTokenizer, StreamsWhatDecodeGives) {
  for (const Ids& ids : rows()) {
    for (const bool skip : {false, true}) {
      StreamDecoder stream(tokenizer_, skip);
      std::string text;
      for (size_t i = 0; i < ids.size(); ++i) {
        const std::string piece = stream.push(ids[i]);
        ASSERT_TRUE(valid_utf8(piece));
        text += piece;
        // What is out must be the beginning of every continuation's text: here of the whole row's.
        ASSERT_TRUE(tokenizer_.decode(ids, skip).starts_with(text))
            << Json(ids).dump() << " at " << i;
      }
      EXPECT_EQ(text + stream.flush(), tokenizer_.decode(ids, skip)) << Json(ids).dump();
      EXPECT_EQ(stream.flush(), "");
    }
  }
}

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const auto& [name, expected] : cases()["small"].items()) {
    all.push_back(name);
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, SmallTokenizer, testing::ValuesIn(names()),
                         [](const auto& param) { return param.param; });

/// FNV-1a over whole ids, a row ended by 2^32 - 1; as the generator's.
std::string hash_ids(const std::vector<Ids>& rows) {
  uint64_t value = 0xCBF29CE484222325u;
  const auto mix = [&](uint64_t one) { value = (value ^ one) * 0x100000001B3u; };
  for (const Ids& row : rows) {
    for (const int32_t id : row) {
      mix(static_cast<uint32_t>(id));
    }
    mix(0xFFFFFFFFu);
  }
  return fmt::format("{:016x}", value);
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    out.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

class RealTokenizer : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!fs::exists(data_folder() / "tokenizers" / GetParam())) {
      GTEST_SKIP() << "no real data (RLHF_DATA)";
    }
  }
};

TEST_P(RealTokenizer, GivesTheRecordedIds) {
  const Tokenizer tokenizer = Tokenizer::load(data_folder() / "tokenizers" / GetParam());
  const Json& expected = cases()["real"][GetParam()];
  const auto all = texts();
  for (size_t i = 0; i < all.size(); ++i) {
    const auto ids = expected["ids"][i].get<Ids>();
    EXPECT_EQ(tokenizer.encode(all[i]), ids) << Json(all[i]).dump();
    EXPECT_EQ(tokenizer.decode(ids, /*skip_special_tokens=*/false),
              expected["decoded"][i].get<std::string>());
  }
  std::vector<std::string> gsm;
  for (const std::string& line : lines(read_file(data_folder() / "gsm8k/train.jsonl"))) {
    const Json row = Json::parse(line);
    gsm.push_back(row["question"].get<std::string>() + "\n" + row["answer"].get<std::string>());
  }
  EXPECT_EQ(hash_ids(tokenizer.encode_batch(gsm, /*add_special_tokens=*/false)), expected["gsm8k"]);
  std::vector<std::string> harmless;
  for (const std::string& line : lines(read_gzip(data_folder() / "hh-harmless/test.jsonl.gz"))) {
    const Json row = Json::parse(line);
    harmless.push_back(row["chosen"].get<std::string>());
    harmless.push_back(row["rejected"].get<std::string>());
  }
  EXPECT_EQ(hash_ids(tokenizer.encode_batch(harmless, /*add_special_tokens=*/false)),
            expected["hh"]);
}

INSTANTIATE_TEST_SUITE_P(All, RealTokenizer, testing::Values("qwen3", "deepseek_v3"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace rlhf
