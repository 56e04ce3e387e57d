#include "rlhf/data/pairs.h"

#include <gtest/gtest.h>

#include "tests/data/data_setting.h"

namespace rlhf {
namespace {

using Ids = std::vector<int32_t>;

struct Setting : DataSetting {
  using DataSetting::DataSetting;
  template <class Rows>
  PairDataset prepare(const Rows& rows, const PairOptions& options = {}) {
    return prepare_pairs(spec(rows), model.tokenizer, model.chat, fingerprint, options, cache(),
                         &statistics);
  }
  std::string text(const Ids& ids) const {
    return model.tokenizer.decode(ids, /*skip_special=*/false);
  }
};

Json given(const Ids& prompt, const Ids& chosen, const Ids& rejected) {
  return {{"prompt_ids", prompt}, {"chosen_ids", chosen}, {"rejected_ids", rejected}};
}

/// A member as the model sees it.
struct Member {
  Ids prompt;
  Ids answer;
  bool operator==(const Member&) const = default;
};
Member chosen_of(const PairDataset& data) {
  return {vector_of(data.chosen_prompt(0)), vector_of(data.chosen(0))};
}
Member rejected_of(const PairDataset& data) {
  return {vector_of(data.rejected_prompt(0)), vector_of(data.rejected(0))};
}

struct Cut {
  int64_t max_length;
  TruncationMode mode;
  std::optional<Member> chosen;  // none: the row is dropped
  std::optional<Member> rejected;
};

// A prompt of 3 tokens, a chosen answer of 2 and a rejected one of 4, by hand.
const Ids kPrompt = {1, 2, 3};
const Ids kChosen = {10, 11};
const Ids kRejected = {20, 21, 22, 23};
const Cut kCuts[] = {
    {7, TruncationMode::keep_start, Member{kPrompt, kChosen}, Member{kPrompt, kRejected}},
    {6, TruncationMode::keep_start, Member{kPrompt, kChosen}, Member{kPrompt, {20, 21, 22}}},
    {5, TruncationMode::keep_start, Member{kPrompt, kChosen}, Member{kPrompt, {20, 21}}},
    {4, TruncationMode::keep_start, Member{kPrompt, {10}}, Member{kPrompt, {20}}},
    {3, TruncationMode::keep_start, std::nullopt, std::nullopt},
    {2, TruncationMode::keep_start, std::nullopt, std::nullopt},
    {7, TruncationMode::keep_end, Member{kPrompt, kChosen}, Member{kPrompt, kRejected}},
    {6, TruncationMode::keep_end, Member{kPrompt, kChosen}, Member{{2, 3}, kRejected}},
    {5, TruncationMode::keep_end, Member{kPrompt, kChosen}, Member{{3}, kRejected}},
    {4, TruncationMode::keep_end, Member{{2, 3}, kChosen}, Member{{}, kRejected}},
    {3, TruncationMode::keep_end, Member{{3}, kChosen}, Member{{}, {21, 22, 23}}},
    {2, TruncationMode::keep_end, Member{{}, kChosen}, Member{{}, {22, 23}}},
};

class PairCuts : public testing::TestWithParam<Cut> {};
std::string cut_name(const testing::TestParamInfo<Cut>& cut) {
  return fmt::format("{}_{}",
                     cut.param.mode == TruncationMode::keep_start ? "keep_start" : "keep_end",
                     cut.param.max_length);
}
INSTANTIATE_TEST_SUITE_P(Table, PairCuts, testing::ValuesIn(kCuts), cut_name);

TEST_P(PairCuts, KeepAnAnswerOfEachMember) {
  const Cut& cut = GetParam();
  const PairOptions options{.max_length = cut.max_length, .truncation_mode = cut.mode};
  Setting s;
  // A row that fits stands behind, so that a set of dropped rows is no error.
  const Json rows = {given(kPrompt, kChosen, kRejected), given({1}, {2}, {3})};
  const PairDataset data = s.prepare(rows, options);
  if (!cut.chosen) {
    EXPECT_EQ(data.rows(), 1);
    EXPECT_EQ(
        s.statistics
            .dropped[fmt::format("nothing to learn is left within max_length ({})", cut.max_length)]
            .count,
        1);
    return;
  }
  ASSERT_EQ(data.rows(), 2);
  EXPECT_EQ(chosen_of(data), *cut.chosen);
  EXPECT_EQ(rejected_of(data), *cut.rejected);
  // 7 tokens are the whole row.
  const bool shortened = cut.max_length < 7;
  EXPECT_EQ(data.length(0), std::min<int64_t>(7, cut.max_length));
  EXPECT_EQ(s.statistics.longest, std::min<int64_t>(7, cut.max_length));
  EXPECT_EQ(s.statistics.cut.size(), shortened ? 1U : 0U);
  // Both prompts are ends of the prompt, the longer one all of it.
  EXPECT_EQ(vector_of(data.prompt(0)), cut.chosen->prompt);
}

TEST_P(PairCuts, KeepMembersIndependent) {
  const Cut& cut = GetParam();
  const PairOptions options{.max_length = cut.max_length, .truncation_mode = cut.mode};
  for (const Ids& other : {Ids{30}, Ids(50, 31)}) {
    const Json with_chosen = Json::array({given(kPrompt, kChosen, other)});
    const Json with_rejected = Json::array({given(kPrompt, other, kRejected)});
    Setting s;
    if (!cut.chosen) {
      EXPECT_HAS(user_error([&] { s.prepare(with_chosen, options); }), "none is left");
      EXPECT_HAS(user_error([&] { s.prepare(with_rejected, options); }), "none is left");
      continue;
    }
    EXPECT_EQ(chosen_of(s.prepare(with_chosen, options)), *cut.chosen);
    EXPECT_EQ(rejected_of(s.prepare(with_rejected, options)), *cut.rejected);
  }
}

TEST(Pairs, RewardRowsAreDroppedAndNeverCut) {
  Setting s;
  const Json rows = {given(kPrompt, kChosen, kRejected), given(kPrompt, kRejected, kChosen),
                     given(kPrompt, kChosen, {12})};
  const PairDataset data = s.prepare(rows, {.mode = PairMode::reward, .max_length = 6});
  ASSERT_EQ(data.rows(), 1);  // the others have a member of 7
  EXPECT_EQ(data.source(0), (s.folder.path() / "d.jsonl").string() + ":3");
  EXPECT_EQ(s.statistics.dropped.at("longer than max_length (6)").count, 2);
  EXPECT_TRUE(s.statistics.cut.empty());
  EXPECT_EQ(data.length(0), 5);
  EXPECT_EQ(s.prepare(rows, {.mode = PairMode::reward, .max_length = 7}).rows(), 3);
}

TEST(Pairs, RewardPromptsAreTheCommonTokensAndLeaveEachAnswerOne) {
  const auto row = [](const Json& json) {
    Setting s;
    const PairDataset data = s.prepare(Json::array({json}), {.mode = PairMode::reward});
    return std::array{vector_of(data.prompt(0)), vector_of(data.chosen(0)),
                      vector_of(data.rejected(0))};
  };
  EXPECT_EQ(row(given({1, 2}, {3, 4}, {3, 5})), (std::array<Ids, 3>{{{1, 2, 3}, {4}, {5}}}));
  EXPECT_EQ(row(given({1}, {2}, {2, 3})), (std::array<Ids, 3>{{{1}, {2}, {2, 3}}}));
  EXPECT_EQ(row({{"chosen_ids", {7, 8}}, {"rejected_ids", {7, 8}}}),
            (std::array<Ids, 3>{{{7}, {8}, {8}}}));
  EXPECT_EQ(row({{"chosen_ids", {7}}, {"rejected_ids", {8}}}),
            (std::array<Ids, 3>{{{}, {7}, {8}}}));
}

TEST(Pairs, EosEndsPlainTextOnce) {
  for (const char* name : {"byte_level", "byte_level_bos", "dummy_prefix"}) {
    for (const PairMode mode : {PairMode::dpo, PairMode::reward}) {
      Setting s(name);
      const int32_t eos = *s.model.tokenizer.eos_id();
      const std::string ended = " cat" + s.model.tokenizer.eos_token();
      const Json rows = {{{"prompt", "the"}, {"chosen", ended}, {"rejected", " dog"}},
                         {{"chosen", "the cat sat"}, {"rejected", "the" + ended}}};
      for (const Json& row : rows) {
        const PairDataset data = s.prepare(Json::array({row}), {.mode = mode});
        for (const Ids& answer : {vector_of(data.chosen(0)), vector_of(data.rejected(0))}) {
          EXPECT_EQ(std::count(answer.begin(), answer.end(), eos), 1) << name << row;
          EXPECT_EQ(answer.back(), eos);
        }
        EXPECT_EQ(s.statistics.eos_rows, 1);
      }
    }
  }
}

TEST(Pairs, ConversationsEndAsTheTemplateSays) {
  const Json prompt = {message("user", "the")};
  const Json rows = Json::array({{{"prompt", prompt},
                                  {"chosen", {message("assistant", "cat")}},
                                  {"rejected", {message("assistant", "dog")}}}});
  for (const PairMode mode : {PairMode::dpo, PairMode::reward}) {
    Setting s;
    const PairDataset data = s.prepare(
        rows, {.mode = mode, .text = {.stop_ids = {s.model.tokenizer.encode("<|im_end|>")}}});
    EXPECT_EQ(s.text(joined(data.prompt(0), data.chosen(0))),
              "<|im_start|>user\nthe<|im_end|>\n<|im_start|>assistant\ncat<|im_end|>\n");
    EXPECT_EQ(s.text(vector_of(data.rejected(0))), "dog<|im_end|>\n");
    EXPECT_EQ(s.statistics.eos_rows, 1);
  }
}

TEST(Pairs, ExactlyOneBos) {
  for (const PairMode mode : {PairMode::dpo, PairMode::reward}) {
    Setting s("byte_level_bos");
    const int32_t bos = *s.model.tokenizer.bos_id();
    const Json rows = {{{"prompt", "the"}, {"chosen", " cat"}, {"rejected", " dog"}},
                       {{"prompt", "<s>the"}, {"chosen", " cat"}, {"rejected", " dog"}},
                       {{"chosen", "<s>the cat"}, {"rejected", "<s>the dog"}}};
    for (const Json& row : rows) {
      const PairDataset data = s.prepare(Json::array({row}), {.mode = mode});
      const Ids whole = joined(data.prompt(0), data.chosen(0));
      EXPECT_EQ(std::count(whole.begin(), whole.end(), bos), 1) << row;
      EXPECT_EQ(whole.front(), bos);
    }
  }
}

TEST(Pairs, IdenticalAnswersAreCountedAndDroppedWhenAsked) {
  const Json rows = {given({1}, {2, 3, 4}, {2, 3, 4}), given({1}, {2, 3, 5}, {2, 3, 6}),
                     given({1}, {2, 4}, {2, 5})};
  Setting s;
  EXPECT_EQ(s.prepare(rows, {.max_length = 3}).rows(), 3);
  EXPECT_EQ(s.statistics.notices.at("chosen and rejected are identical").count, 1);
  // 2 3 is left of the second row's answers.
  EXPECT_EQ(s.statistics.notices.at("chosen and rejected are identical within max_length").count,
            1);
  EXPECT_EQ(s.prepare(rows, {.max_length = 3, .drop_identical = true}).rows(), 1);
  EXPECT_EQ(s.statistics.dropped.at("chosen and rejected are identical").examples,
            std::vector<std::string>{(s.folder.path() / "d.jsonl").string() + ":1"});
  EXPECT_EQ(s.statistics.dropped.at("chosen and rejected are identical within max_length").count,
            1);
}

TEST(Pairs, MarginsAreThoseOfRewardRows) {
  Json rows = {given({1}, {2}, {3}), given({1}, {2}, {3})};
  rows[0]["margin"] = 1.25;
  Setting s;
  const PairDataset reward = s.prepare(rows, {.mode = PairMode::reward});
  EXPECT_EQ(reward.margin(0), 1.25F);
  EXPECT_EQ(reward.margin(1), std::nullopt);
  EXPECT_EQ(s.statistics.notices.at("with a margin").count, 1);
  EXPECT_EQ(s.prepare(rows).margin(0), std::nullopt);
  rows[1]["margin"] = "large";
  EXPECT_HAS(user_error([&] { s.prepare(rows, {.mode = PairMode::reward}); }),
             "d.jsonl:2] `margin` was expected to be a number, got \"large\".");
}

TEST(Pairs, BadRowsAreFoundAtOnce) {
  const Json rows = {given({1}, {}, {3}),
                     given({1}, {2}, {}),
                     given({}, {2}, {3, 4}),
                     given({}, {2, 5}, {3, 4}),
                     {{"prompt_ids", {1}}}};
  Setting s;
  const std::string error = user_error([&] { s.prepare(rows); });
  EXPECT_HAS(error, "d.jsonl:1] `chosen` was expected to have a token, got none.");
  EXPECT_HAS(error, "d.jsonl:2] `rejected` was expected to have a token, got none.");
  EXPECT_HAS(error, "d.jsonl:3] a token before the only one of `chosen` was expected");
  EXPECT_EQ(error.find("d.jsonl:4]"), std::string::npos);
  EXPECT_HAS(error, "d.jsonl:5] column `chosen_ids` was expected.");
  EXPECT_EQ(s.caches(), 0);
  EXPECT_EQ(s.prepare(rows, {.text = {.on_bad_row = OnBadRow::drop}}).rows(), 1);
  EXPECT_EQ(s.statistics.dropped.at("bad row").count, 4);
  // A score needs no token before it.
  EXPECT_EQ(
      s.prepare(rows, {.mode = PairMode::reward, .text = {.on_bad_row = OnBadRow::drop}}).rows(),
      2);
}

TEST(Pairs, SayWhatIsExpected) {
  Setting s;
  EXPECT_HAS(user_error([&] { s.prepare(std::string(R"({"question": "a", "answer": "b"})")); }),
             "columns `chosen` and `rejected` (and `prompt`) were expected, got `question`, "
             "`answer`.");
  EXPECT_HAS(user_error([&] { s.prepare(Json::array({given({1}, {2}, {3})}), {.max_length = 1}); }),
             "[max_length]");
  s.model.chat.reset();
  const Json chats =
      Json::array({{{"chosen", {message("user", "q"), message("assistant", "a")}},
                    {"rejected", {message("user", "q"), message("assistant", "b")}}}});
  EXPECT_HAS(user_error([&] { s.prepare(chats); }), "[chat_template]");
}

TEST(Pairs, StatisticsCountThePromptOnce) {
  Setting s;
  const PairDataset data = s.prepare(Json::array({given(kPrompt, kChosen, kRejected)}));
  EXPECT_EQ(s.statistics.tokens, 9);             // 3 + 2 + 4
  EXPECT_EQ(s.statistics.supervised_tokens, 6);  // 2 + 4
  EXPECT_EQ(s.statistics.longest, 7);            // 3 + 4
  EXPECT_EQ(s.statistics.eos_rows, 0);
  EXPECT_EQ(data.lengths(), std::vector<int64_t>{7});
}

TEST(Pairs, ContentNamesWhatRowsHold) {
  const auto content = [](const auto& rows, PairMode mode = PairMode::dpo) {
    Setting s;
    return s.prepare(rows, {.mode = mode}).content();
  };
  const Json rows = Json::array({given({5}, {9, 6}, {7, 8})});
  const Content base = content(rows);
  EXPECT_EQ(base.least, 5);
  EXPECT_EQ(base.largest, 9);
  EXPECT_EQ(content(rows).fingerprint, base.fingerprint);  // another folder, another cache
  // Where a row stands is not what it holds.
  EXPECT_EQ(content("\n" + rows[0].dump() + "\n").fingerprint, base.fingerprint);
  EXPECT_NE(content(Json::array({given({5}, {9, 6}, {7, 9})})).fingerprint, base.fingerprint);
  EXPECT_NE(content(Json::array({given({5, 9}, {6}, {7, 8})})).fingerprint, base.fingerprint);
  Json with_margin = rows;
  with_margin[0]["margin"] = 1;
  EXPECT_NE(content(with_margin, PairMode::reward).fingerprint,
            content(rows, PairMode::reward).fingerprint);
}

TEST(Pairs, EveryOptionIsPartOfTheKey) {
  const PairOptions base;
  std::vector<PairOptions> others(8, base);
  others[0].mode = PairMode::reward;
  others[1].max_length.reset();
  others[2].truncation_mode = TruncationMode::keep_end;
  others[3].drop_identical = true;
  others[4].text.eos_token = "x";
  others[5].text.stop_ids = {3};
  others[6].text.chat_template_kwargs["a"] = 1;
  others[7].text.on_bad_row = OnBadRow::drop;
  for (const auto& other : others) EXPECT_NE(other.key(), base.key());
  Setting s;
  const Json rows = Json::array({given({1}, {2}, {3})});
  s.prepare(rows);
  s.prepare(rows);
  EXPECT_EQ(s.caches(), 1);
  s.prepare(rows, others[0]);
  EXPECT_EQ(s.caches(), 2);
}

}  // namespace
}  // namespace rlhf
