// Cases worked by hand, properties, and what callers rely on.
#include "rlhf/text/tokenizer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "rlhf/core/error.h"
#include "rlhf/core/random.h"
#include "rlhf/core/threads.h"
#include "rlhf/text/byte_level.h"
#include "rlhf/text/regex.h"
#include "rlhf/text/unicode.h"

namespace rlhf {
namespace {

using Ids = std::vector<int32_t>;

/// A BPE over `tokens` (ids in order) and `merges`, with `more` put beside the model.
Json bpe(const std::vector<std::string>& tokens,
         const std::vector<std::pair<std::string, std::string>>& merges,
         Json more = Json::object()) {
  Json model = {{"type", "BPE"}, {"vocab", Json::object()}, {"merges", Json::array()}};
  for (size_t i = 0; i < tokens.size(); ++i) {
    model["vocab"][tokens[i]] = i;
  }
  for (const auto& [left, right] : merges) {
    model["merges"].push_back(left + " " + right);
  }
  more["model"].update(model);
  return more;
}

TEST(Bpe, JoinsByRankThenFromTheLeft) {
  // Ranks: bc 0, ab 1, abc 2. "abc": bc joins first although ab stands before it; a|bc has no merge
  // left.
  const Tokenizer t = Tokenizer::from_json(
      bpe({"a", "b", "c", "bc", "ab", "abc"}, {{"b", "c"}, {"a", "b"}, {"ab", "c"}}), nullptr);
  EXPECT_EQ(t.encode("abc"), (Ids{0, 3}));
  EXPECT_EQ(t.encode("abab"), (Ids{4, 4}));
  // Equal ranks: leftmost first, so an odd run keeps its last.
  const Tokenizer runs = Tokenizer::from_json(bpe({"a", "aa"}, {{"a", "a"}}), nullptr);
  EXPECT_EQ(runs.encode("aaaaa"), (Ids{1, 1, 0}));
}

TEST(Bpe, LongWordsJoinAsShortOnes) {
  // The same word, below and above the length where the heap takes over from the linear search.
  const Tokenizer t = Tokenizer::from_json(bpe({"a", "b", "ab", "ba", "aba", "abab"},
                                               {{"a", "b"}, {"ab", "a"}, {"b", "a"}, {"ab", "ab"}}),
                                           nullptr);
  for (const size_t length : {2u, 7u, 48u, 49u, 200u, 1001u}) {
    std::string text;
    for (size_t i = 0; i < length; ++i) {
      text += i % 2 == 0 ? 'a' : 'b';
    }
    // All ab join; then (ab, a) outranks (ab, ab), but the only a left is that of an odd length's
    // end; pairs of ab join.
    Ids want;
    size_t pairs = length / 2;
    const bool odd = length % 2 == 1;
    pairs -= odd ? 1 : 0;
    for (; pairs >= 2; pairs -= 2) {
      want.push_back(5);
    }
    if (pairs == 1) {
      want.push_back(2);
    }
    if (odd) {
      want.push_back(4);
    }
    EXPECT_EQ(t.encode(text), want) << length;
  }
}

TEST(Bpe, UnknownCharactersVanishFuseOrBecomeBytes) {
  const Json none = bpe({"a", "<unk>"}, {});
  EXPECT_EQ(Tokenizer::from_json(none, nullptr).encode("axxa"), (Ids{0, 0}));
  const Json single = bpe({"a", "<unk>"}, {}, {{"model", {{"unk_token", "<unk>"}}}});
  EXPECT_EQ(Tokenizer::from_json(single, nullptr).encode("axxa"), (Ids{0, 1, 1, 0}));
  const Json fused =
      bpe({"a", "<unk>"}, {}, {{"model", {{"unk_token", "<unk>"}, {"fuse_unk", true}}}});
  EXPECT_EQ(Tokenizer::from_json(fused, nullptr).encode("axxa"), (Ids{0, 1, 0}));
  // é is C3 A9; ê (C3 AA) lacks a byte token and is unknown as a whole.
  const Json bytes = bpe({"a", "<unk>", "<0xC3>", "<0xA9>"}, {},
                         {{"model", {{"unk_token", "<unk>"}, {"byte_fallback", true}}}});
  EXPECT_EQ(Tokenizer::from_json(bytes, nullptr).encode("a\u00e9\u00ea"), (Ids{0, 2, 3, 1}));
}

TEST(Bpe, IgnoreMergesTakesWholeWords) {
  const std::vector<std::string> tokens = {"a", "b", "ab"};
  EXPECT_EQ(Tokenizer::from_json(bpe(tokens, {}), nullptr).encode("ab"), (Ids{0, 1}));
  const Json ignoring = bpe(tokens, {}, {{"model", {{"ignore_merges", true}}}});
  EXPECT_EQ(Tokenizer::from_json(ignoring, nullptr).encode("ab"), (Ids{2}));
}

TEST(Unigram, TakesTheBestSum) {
  // ab+c = -3, a+bc = -2.5, a+b+c = -6, and x is unknown: the smallest score less 10, two of them
  // one token.
  Json file = {
      {"model",
       {{"type", "Unigram"},
        {"unk_id", 0},
        {"vocab",
         Json::parse(
             R"([["<unk>", 0], ["a", -2], ["b", -2], ["c", -2], ["ab", -1], ["bc", -0.5]])")}}}};
  const Tokenizer t = Tokenizer::from_json(file, nullptr);
  EXPECT_EQ(t.encode("abc"), (Ids{1, 5}));
  EXPECT_EQ(t.encode("abxxc"), (Ids{4, 0, 3}));
  file["model"]["unk_id"] = nullptr;
  EXPECT_THROW(Tokenizer::from_json(file, nullptr).encode("x"), UserError);
}

TEST(Unigram, UnknownCostsTenMoreThanTheWorstPiece) {
  // xa scores -3; unknown and a: (-3 - 10) + 5 = -8. With a cost of the worst piece alone it would
  // be 2.
  const Json file = {{"model",
                      {{"type", "Unigram"},
                       {"unk_id", 0},
                       {"vocab", Json::parse(R"([["<unk>", 0], ["a", 5], ["xa", -3]])")}}}};
  EXPECT_EQ(Tokenizer::from_json(file, nullptr).encode("xa"), (Ids{2}));
}

TEST(Metaspace, FirstMeansTheStartOfWhatWasGiven) {
  // Recorded from tokenizers 0.23.3: stripped or removed leading characters count as given.
  const auto encode = [](const Json& normalizer, const Json& before, std::string_view text) {
    Json first = {
        {"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "first"}, {"split", false}};
    Json stages = Json::array();
    if (!before.is_null()) {
      stages.push_back(before);
    }
    stages.push_back(first);
    const Json parts = {{"normalizer", normalizer},
                        {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", stages}}}};
    return Tokenizer::from_json(bpe({"_", "a", "b"}, {}, parts), nullptr).encode(text);
  };
  const Json strip = {{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}};
  EXPECT_EQ(encode(strip, nullptr, "ab"), (Ids{0, 1, 2}));
  EXPECT_EQ(encode(strip, nullptr, " ab"), (Ids{1, 2}));
  const Json spaces = {{"type", "CharDelimiterSplit"}, {"delimiter", " "}};
  EXPECT_EQ(encode(nullptr, spaces, "a b"), (Ids{0, 1, 2}));
  EXPECT_EQ(encode(nullptr, spaces, " a b"), (Ids{1, 2}));
  const Json remove = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", ""}};
  EXPECT_EQ(encode(remove, nullptr, "ab"), (Ids{2}));
  EXPECT_EQ(encode(remove, nullptr, "ba"), (Ids{0, 2}));
}

TEST(Tokenizer, LlamaClassIsNotLegacyByDefault) {
  // As LlamaTokenizer of transformers 5.23: without `legacy` only the very start gets the mark.
  const Json file =
      bpe({"\u2581", "a", "<s>"}, {},
          {{"added_tokens",
            {{{"id", 2}, {"content", "<s>"}, {"special", true}, {"normalized", false}}}}});
  Json config = {{"tokenizer_class", "LlamaTokenizer"}};
  EXPECT_EQ(Tokenizer::from_json(file, config).encode("a<s>a"), (Ids{0, 1, 2, 1}));
  config["legacy"] = true;
  EXPECT_EQ(Tokenizer::from_json(file, config).encode("a<s>a"), (Ids{0, 1, 2, 0, 1}));
  config["add_prefix_space"] = false;
  EXPECT_EQ(Tokenizer::from_json(file, config).encode("a<s>a"), (Ids{1, 2, 1}));
}

TEST(Tokenizer, ByteLevelTextSurvivesTheRoundTrip) {
  std::vector<std::string> tokens;
  for (unsigned b = 0; b < 256; ++b) {
    tokens.emplace_back(byte_level_char(static_cast<unsigned char>(b)));
  }
  tokens.insert(tokens.end(), {"\u0120t", "he", "\u0120the", "\u010a\u010a", "\u00e4\u00b8"});
  const Json file = bpe(
      tokens,
      {{"\u0120", "t"}, {"h", "e"}, {"\u0120t", "he"}, {"\u010a", "\u010a"}, {"\u00e4", "\u00b8"}},
      {{"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
       {"decoder", {{"type", "ByteLevel"}}}});
  const Tokenizer t = Tokenizer::from_json(file, nullptr);
  Random random(11, {1});
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    const uint64_t length = random.below(30);
    for (uint64_t i = 0; i < length; ++i) {
      const uint64_t kind = random.below(6);
      char32_t c = static_cast<char32_t>(kind < 3   ? random.below(0x80)
                                         : kind < 4 ? random.below(0x800)
                                         : kind < 5 ? 0x4E00 + random.below(64)
                                                    : random.below(0x110000));
      c = c >= 0xD800 && c <= 0xDFFF ? U' ' : c;
      append_utf8(text, c);
    }
    ASSERT_EQ(t.decode(t.encode(text), false), text);
  }
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  const Tokenizer t = Tokenizer::from_json(bpe({"a"}, {}), nullptr);
  for (const std::string text :
       {"a\xFF", "\xC3", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE4\xB8", "\x80"}) {
    EXPECT_THROW(t.encode(text), UserError) << text.size();
    EXPECT_THROW(t.encode_batch(std::vector<std::string>{"a", text}, false), UserError);
  }
}

TEST(Tokenizer, BatchesDoNotDependOnThreads) {
  const Tokenizer t = Tokenizer::load(fs::path(RLHF_FIXTURES) / "text/tokenizer_qwen2");
  std::vector<std::string> texts;
  for (int i = 0; i < 500; ++i) {
    texts.push_back(fmt::format("text {} of the tokenizer, {} words\n", i, i * i));
  }
  const int before = worker_threads();
  set_worker_threads(1);
  const auto alone = t.encode_batch(texts, false);
  set_worker_threads(8);
  const auto together = t.encode_batch(texts, false);
  set_worker_threads(before);
  EXPECT_EQ(alone, together);
  EXPECT_EQ(alone[7], t.encode(texts[7]));
}

TEST(Tokenizer, DecodeLeavesUnknownIdsOut) {
  const Tokenizer t = Tokenizer::load(fs::path(RLHF_FIXTURES) / "text/tokenizer_gpt2");
  const Ids hello = t.encode("hello");
  Ids odd = {-1, 1 << 30};
  odd.insert(odd.begin() + 1, hello.begin(), hello.end());
  EXPECT_EQ(t.decode(odd, false), "hello");
  EXPECT_EQ(t.id_to_token(-5), "");
  EXPECT_FALSE(t.token_to_id("no such token"));
  EXPECT_FALSE(t.is_special(-1));
}

TEST(Tokenizer, ChatTemplateFromConfigListOrFile) {
  const Json file = bpe({"a"}, {});
  EXPECT_EQ(Tokenizer::from_json(file, nullptr).chat_template(), "");
  EXPECT_EQ(Tokenizer::from_json(file, {{"chat_template", "one"}}).chat_template(), "one");
  const Json list = {{{"name", "tool_use"}, {"template", "two"}},
                     {{"name", "default"}, {"template", "three"}}};
  EXPECT_EQ(Tokenizer::from_json(file, {{"chat_template", list}}).chat_template(), "three");
  const fs::path folder = fs::path(testing::TempDir()) / "rlhf_tokenizer_template";
  fs::create_directories(folder);
  write_file(folder / "tokenizer.json", file.dump());
  write_file(folder / "tokenizer_config.json", R"({"chat_template": "one"})");
  write_file(folder / "chat_template.jinja", "four");
  EXPECT_EQ(Tokenizer::load(folder).chat_template(), "four");
  fs::remove_all(folder);
}

TEST(StreamDecoder, HoldsHalfCharactersAndByteRuns) {
  const Tokenizer gpt2 = Tokenizer::load(fs::path(RLHF_FIXTURES) / "text/tokenizer_gpt2");
  StreamDecoder bytes(gpt2, false);
  // U+1F600 is F0 9F 98 80, each byte a token of its own.
  for (const char b : std::string_view("\xF0\x9F\x98")) {
    EXPECT_EQ(bytes.push(*gpt2.token_to_id(byte_level_char(static_cast<unsigned char>(b)))), "");
  }
  EXPECT_EQ(bytes.push(*gpt2.token_to_id(byte_level_char(0x80))), "\U0001F600");
  EXPECT_EQ(bytes.push(*gpt2.token_to_id(byte_level_char(0xC3))), "");
  EXPECT_EQ(bytes.flush(), "\uFFFD");

  const Tokenizer llama = Tokenizer::load(fs::path(RLHF_FIXTURES) / "text/tokenizer_llama2");
  StreamDecoder run(llama, false);
  EXPECT_EQ(run.push(*llama.token_to_id("\u2581")), "");
  EXPECT_EQ(run.push(*llama.token_to_id("<0xC3>")), "");
  EXPECT_EQ(run.push(*llama.token_to_id("<0xA9>")),
            "");  // valid, but one more byte token would spoil the run
  EXPECT_EQ(run.push(*llama.token_to_id("t")), "\u00e9t");
  EXPECT_EQ(run.flush(), "");
}

TEST(TokenizerIds, AVocabularyMayHaveHoles) {
  // Three tokens, so the added one is numbered 3, as in `tokenizers`; no token has id 2.
  Json file = bpe({"a", "b"}, {});
  file["model"]["vocab"]["c"] = 4;
  file["added_tokens"] = {{{"id", 3}, {"content", "<s>"}}};
  const Tokenizer t = Tokenizer::from_json(file, nullptr);
  EXPECT_EQ(t.vocab_size(), 5);
  for (const int32_t id : {0, 1, 3, 4}) EXPECT_TRUE(t.has_token(id)) << id;
  for (const int32_t id : {-1, 2, 5, INT32_MAX}) EXPECT_FALSE(t.has_token(id)) << id;
}

TEST(Regex, TranslatesWhatOnigurumaMeans) {
  const auto matches = [](const std::string& pattern, std::string_view text) {
    std::vector<Match> spans;
    Regex(pattern, "test").find_all(text, spans);
    std::string out;
    for (const Match& m : spans) {
      out += fmt::format("{}{}{}", m.matched ? "(" : "", text.substr(m.begin, m.end - m.begin),
                         m.matched ? ")" : "");
    }
    return out;
  };
  EXPECT_EQ(matches(R"(\h+)", "xyz1fg"), "xyz(1f)g");  // hexadecimal, not horizontal space
  EXPECT_EQ(matches(R"([a-z&&[^aeiou]]+)", "banana"), "(b)a(n)a(n)a");  // intersection
  EXPECT_EQ(matches(R"([x[0-9]]+)", "ax1b2"), "a(x1)b(2)");             // union
  EXPECT_EQ(matches(R"([^x[0-9]])", "x1b"), "x1(b)");
  EXPECT_EQ(matches("(?m:a.b)", "a\nb"), "(a\nb)");                   // Ruby's m: dot matches all
  EXPECT_EQ(matches("^b", "a\nb"), "a\n(b)");                         // always by line
  EXPECT_EQ(matches(R"([[:punct:]])", "a+b"), "a(+)b");               // symbols too
  EXPECT_EQ(matches(R"(\s)", "a\u180eb\u3000"), "a\u180eb(\u3000)");  // U+180E is no white space
  EXPECT_EQ(matches(R"(\p{Han}|\p{^Letter}|\p{Decimal_Number})", "a\u4e2d1"), "a(\u4e2d)(1)");
  EXPECT_EQ(matches("x*", "axb"), "()a(x)b()");
  EXPECT_THROW(Regex("(", "test"), UserError);
  EXPECT_THROW(Regex("[a", "test"), UserError);
  EXPECT_THROW(Regex(R"(\)", "test"), UserError);
  EXPECT_THROW(Regex(std::string(100, '['), "test"), UserError);
}

TEST(Regex, LongRunsNeedNoStack) {
  std::vector<Match> spans;
  Regex("(?:a|b)*c", "test").find_all(std::string(1'000'000, 'a') + "c", spans);
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_TRUE(spans[0].matched);
}

}  // namespace
}  // namespace rlhf
