// Which token pads a reward model's rows: ids and names worked by hand.
#include "rlhf/text/pad_token.h"

#include <gtest/gtest.h>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

/// Ids 0, 1, … for `specials`, then the ordinary tokens a and b.
Tokenizer tokenizer(const std::vector<std::string>& specials, const Json& config) {
  Json vocab = Json::object();
  Json added = Json::array();
  for (const auto& token : specials) {
    added.push_back({{"id", vocab.size()},
                     {"content", token},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
    vocab[token] = vocab.size();
  }
  for (const char* token : {"a", "b"}) vocab[token] = vocab.size();
  return Tokenizer::from_json(
      {{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}},
       {"added_tokens", added}},
      config);
}

std::string chosen(const Tokenizer& tokenizer, const Json& config = Json::object(),
                   const PadRequest& request = {}) {
  const auto token = choose_pad_token(tokenizer, config, request);
  EXPECT_EQ(tokenizer.token_to_id(token.text), token.id);
  EXPECT_EQ(token.replaced, tokenizer.pad_id() != token.id);
  EXPECT_FALSE(token.reason.empty());
  return token.text;
}

TEST(PadToken, KeepsOneThatEndsNothing) {
  const auto own = tokenizer({"<eos>", "<pad>"}, {{"eos_token", "<eos>"}, {"pad_token", "<pad>"}});
  EXPECT_EQ(chosen(own), "<pad>");
  EXPECT_FALSE(choose_pad_token(own, nullptr).replaced);
  // The tokenizer's wins over config.json's: it is what pads.
  EXPECT_EQ(chosen(own, {{"pad_token_id", 2}}), "<pad>");
  EXPECT_EQ(chosen(tokenizer({"<eos>", "<x>"}, {{"eos_token", "<eos>"}}), {{"pad_token_id", 1}}),
            "<x>");
}

TEST(PadToken, ReplacesOneThatEndsRows) {
  const Json pad_is_eos = {{"eos_token", "<eos>"}, {"pad_token", "<eos>"}};
  EXPECT_EQ(chosen(tokenizer({"<eos>", "<x>"}, pad_is_eos), {{"pad_token_id", 0}}), "<x>");
  // config.json may list several ends of text, and the caller knows more.
  const auto three = tokenizer({"<eos>", "<x>", "<y>", "<z>"}, pad_is_eos);
  EXPECT_EQ(chosen(three, {{"eos_token_id", {0, 1}}}), "<y>");
  EXPECT_EQ(chosen(three, {{"eos_token_id", 1}}, {.pad_token = {}, .stop_ids = {2}}), "<z>");
  // Named by config.json as EOS only.
  EXPECT_EQ(chosen(tokenizer({"<eos>", "<x>"}, {{"pad_token", "<eos>"}}), {{"eos_token_id", 0}}),
            "<x>");
}

TEST(PadToken, PrefersTokensMadeForIt) {
  const Json config = {{"eos_token", "<eos>"}, {"unk_token", "<unk>"}, {"bos_token", "<bos>"}};
  EXPECT_EQ(chosen(tokenizer({"<bos>", "<eos>", "<x>", "<unk>", "<|reserved_0|>", "<|right_PAD|>"},
                             config)),
            "<|right_PAD|>");
  EXPECT_EQ(chosen(tokenizer({"<bos>", "<eos>", "<x>", "<unk>", "<|reserved_0|>"}, config)),
            "<|reserved_0|>");
  EXPECT_EQ(chosen(tokenizer({"<bos>", "<eos>", "<x>", "<unk>"}, config)), "<unk>");
  EXPECT_EQ(chosen(tokenizer({"<bos>", "<eos>", "<unk>", "<x>"},
                             {{"eos_token", "<eos>"}, {"bos_token", "<bos>"}})),
            "<unk>")
      << "without a name of its own the first special token";
}

TEST(PadToken, LeavesTokensOfTheTemplateAndBeyondTheModelAlone) {
  const Json config = {{"eos_token", "<eos>"}, {"chat_template", "<start>{{ messages }}<eos>"}};
  const auto four = tokenizer({"<eos>", "<start>", "<x>", "<pad>"}, config);
  EXPECT_EQ(chosen(four), "<pad>");
  EXPECT_EQ(chosen(four, {{"vocab_size", 3}}), "<x>");
  EXPECT_THROW(choose_pad_token(four, {{"vocab_size", 2}}), UserError);
}

TEST(PadToken, TakesTheOneAskedForIfItEndsNothing) {
  const auto two = tokenizer({"<eos>", "<x>"}, {{"eos_token", "<eos>"}, {"pad_token", "<x>"}});
  EXPECT_EQ(chosen(two, nullptr, {.pad_token = "b"}), "b");
  EXPECT_THROW(choose_pad_token(two, nullptr, {.pad_token = "<eos>"}), UserError);
  EXPECT_THROW(choose_pad_token(two, nullptr, {.pad_token = "<ghost>"}), UserError);
}

TEST(PadToken, RefusesWhereThereIsNone) {
  // As gpt2: one special token that is everything.
  const auto one = tokenizer({"<end>"}, {{"eos_token", "<end>"},
                                         {"bos_token", "<end>"},
                                         {"unk_token", "<end>"},
                                         {"pad_token", "<end>"}});
  try {
    choose_pad_token(one, {{"eos_token_id", 0}});
    FAIL() << "a UserError was expected";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("[pad_token] a padding token"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace rlhf
