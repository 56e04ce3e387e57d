#include "rlhf/text/stop_strings.h"

#include <gtest/gtest.h>

#include "rlhf/core/json.h"
#include "rlhf/core/utf8.h"

namespace rlhf {
namespace {

using Texts = std::vector<std::string>;
using Ids = std::vector<int32_t>;

/// One token a character or byte, of a tokenizer with the decoder given.
Tokenizer tokenizer_of(const std::string& decoder, const Texts& tokens) {
  Json file = Json::parse(R"({"added_tokens": [], "normalizer": null, "pre_tokenizer": null,
    "post_processor": null, "model": {"type": "BPE", "byte_fallback": true, "merges": []}})");
  file["decoder"] = Json::parse(decoder);
  for (size_t i = 0; i < tokens.size(); ++i) file["model"]["vocab"][tokens[i]] = i;
  file["added_tokens"] = {{{"id", tokens.size()}, {"content", "<end>"}, {"special", true}}};
  return Tokenizer::from_json(file, Json::object());
}

struct Shown {
  Texts pieces;  ///< what take() gave after each token, and rest() last
  bool stopped = false;
};

Shown show(const Tokenizer& tokenizer, const Texts& stop, const Ids& ids) {
  StopStrings watch(tokenizer, stop);
  Shown shown;
  for (const int32_t id : ids) {
    shown.stopped = watch.push(id);
    shown.pieces.push_back(watch.take());
    if (shown.stopped) break;
  }
  shown.pieces.push_back(watch.rest());
  return shown;
}

const std::string kByteLevel = R"({"type": "ByteLevel"})";
const std::string kFallback =
    R"({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]})";
/// Later tokens could change any of the text.
const std::string kWhole = R"({"type": "Sequence", "decoders": [{"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 0, "stop": 1}]})";

TEST(StopStrings, GiveTextAsItComes) {
  const Tokenizer t = tokenizer_of(kByteLevel, {"a", "b", "cd"});
  const Shown shown = show(t, {}, {0, 2, 1});
  EXPECT_EQ(shown.pieces, (Texts{"a", "cd", "b", ""}));
  EXPECT_FALSE(shown.stopped);
}

TEST(StopStrings, HoldBackWhatMayBeginAStop) {
  const Tokenizer t = tokenizer_of(kByteLevel, {"a", "b", "x"});
  // "ab" may go on to "abb"; "ab" + "a" cannot, but its last "a" may begin one.
  EXPECT_EQ(show(t, {"abb"}, {2, 0, 1, 0, 2}).pieces, (Texts{"x", "", "", "ab", "ax", ""}));
  // What never became one is shown in the end.
  EXPECT_EQ(show(t, {"abb"}, {2, 0, 1}).pieces, (Texts{"x", "", "", "ab"}));
  const Shown stopped = show(t, {"abb"}, {2, 0, 0, 1, 1});
  EXPECT_TRUE(stopped.stopped);
  EXPECT_EQ(stopped.pieces, (Texts{"x", "", "a", "", "", ""}));
}

TEST(StopStrings, HoldBackTheLongestOfSeveral) {
  const Tokenizer t = tokenizer_of(kByteLevel, {"a", "b", "x"});
  EXPECT_EQ(show(t, {"bx", "abb"}, {0, 1, 0, 2}).pieces, (Texts{"", "", "ab", "ax", ""}));
  EXPECT_EQ(show(t, {"bx", "abb"}, {0, 1, 2}).pieces, (Texts{"", "", "a", ""}));
}

TEST(StopStrings, AStopWithinATokenCutsIt) {
  const Tokenizer t = tokenizer_of(kByteLevel, {"a", "xabcx"});
  const Shown shown = show(t, {"ab"}, {0, 1, 0});
  EXPECT_TRUE(shown.stopped);
  EXPECT_EQ(shown.pieces, (Texts{"", "ax", ""}));
}

TEST(StopStrings, GiveWholeCharactersAlone) {
  // The bytes of U+00E9, C3 A9, as byte-level writes them: U+00C3 and U+00A9.
  const Tokenizer t = tokenizer_of(kByteLevel, {"a", "\u00C3", "\u00A9"});
  EXPECT_EQ(show(t, {}, {0, 1, 2, 0}).pieces, (Texts{"a", "", "\u00E9", "a", ""}));
  EXPECT_EQ(show(t, {"\u00E9a"}, {1, 2, 2}).pieces, (Texts{"", "", "\u00E9\uFFFD", ""}));
  EXPECT_EQ(show(t, {}, {0, 1}).pieces, (Texts{"a", "", "\uFFFD"}));
}

TEST(StopStrings, HoldRunsOfByteTokens) {
  const Tokenizer t = tokenizer_of(kFallback, {"a", "<0xC3>", "<0xA9>", "<0x0A>"});
  EXPECT_EQ(show(t, {}, {0, 1, 2, 0}).pieces, (Texts{"a", "", "", "\u00E9a", ""}));
  EXPECT_EQ(show(t, {}, {0, 1, 2}).pieces, (Texts{"a", "", "", "\u00E9"}));
  // A stop is found in what is held, and what stands before it is shown.
  const Shown shown = show(t, {"\n"}, {0, 1, 2, 3});
  EXPECT_TRUE(shown.stopped);
  EXPECT_EQ(shown.pieces, (Texts{"a", "", "", "\u00E9", ""}));
}

TEST(StopStrings, WhereLaterTokensChangeAllNothingIsGivenBeforeTheEnd) {
  const Tokenizer t = tokenizer_of(kWhole, {"a", "b", " "});
  EXPECT_EQ(show(t, {}, {0, 1, 2}).pieces, (Texts{"", "", "", "ab"}));
  const Shown shown = show(t, {"b"}, {0, 2, 1});
  EXPECT_TRUE(shown.stopped);
  EXPECT_EQ(shown.pieces, (Texts{"", "", "a ", ""}));
  const Texts stop = {"b"};
  StopStrings cut(t, stop);
  cut.push(0);
  cut.push(1);
  EXPECT_EQ(cut.cut_text(), "a");
}

TEST(StopStrings, SpecialTokensAreNoText) {
  const Tokenizer t = tokenizer_of(kByteLevel, {"a", "b"});
  EXPECT_EQ(show(t, {"ab"}, {0, 2, 1}).pieces, (Texts{"", "", "", ""}));
  EXPECT_EQ(show(t, {}, {0, 2, 1}).pieces, (Texts{"a", "", "b", ""}));
}

// Over tokenizers of every kind: joined, the pieces are what decode() gives, and each is UTF-8.
TEST(StopStrings, PiecesJoinToTheText) {
  for (const char* name :
       {"gpt2", "llama2", "gemma", "qwen2", "t5", "bert_cased", "unigram_bytes"}) {
    const Tokenizer t =
        Tokenizer::load(fs::path(RLHF_FIXTURES) / "text" / ("tokenizer_" + std::string(name)));
    uint32_t state = 1;
    for (int round = 0; round < 50; ++round) {
      Ids ids;
      for (int i = 0; i < 24; ++i) {
        state = state * 1664525 + 1013904223;  // Numerical Recipes' generator
        ids.push_back(static_cast<int32_t>((state >> 8) % static_cast<uint32_t>(t.vocab_size())));
      }
      std::string text;
      for (const std::string& piece : show(t, {"e ", "the", "\n\n"}, ids).pieces) {
        EXPECT_TRUE(valid_utf8(piece)) << name;
        text += piece;
      }
      const std::string whole = t.decode(ids, /*skip_special_tokens=*/true);
      size_t end = whole.size();
      for (const char* stop : {"e ", "the", "\n\n"}) end = std::min(end, whole.find(stop));
      EXPECT_EQ(text, whole.substr(0, end)) << name << " " << Json(ids).dump();
    }
  }
}

}  // namespace
}  // namespace rlhf
