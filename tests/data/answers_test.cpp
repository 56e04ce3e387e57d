#include "rlhf/data/answers.h"

#include <gtest/gtest.h>

#include "tests/data/data_setting.h"

namespace rlhf {
namespace {

using Ids = std::vector<int32_t>;

struct Setting : DataSetting {
  using DataSetting::DataSetting;
  template <class Rows>
  AnswerDataset prepare(const Rows& rows, const AnswerOptions& options = {}) {
    return prepare_answers(spec(rows), model.tokenizer, model.chat, fingerprint, options, cache(),
                           &statistics);
  }
};

Json answer(const Ids& prompt, const Ids& completion, const Json& label) {
  return {{"prompt_ids", prompt}, {"completion_ids", completion}, {"label", label}};
}
Json pair(int32_t prompt, int32_t chosen, int32_t rejected) {
  return {{"prompt_ids", {prompt}}, {"chosen_ids", {chosen}}, {"rejected_ids", {rejected}}};
}

/// Prompt, completion and label of every row.
Json rows_of(const AnswerDataset& data) {
  Json rows = Json::array();
  for (int64_t row = 0; row < data.rows(); ++row) {
    rows.push_back(
        {vector_of(data.prompt(row)), vector_of(data.completion(row)), data.desirable(row)});
  }
  return rows;
}

TEST(Answers, KeepLabelsAndCountClasses) {
  Setting s;
  const AnswerDataset data = s.prepare(Json{answer({1, 2}, {3}, true), answer({1}, {4, 5}, 0),
                                            answer({1}, {6}, 1), answer({1}, {7}, false)});
  EXPECT_EQ(rows_of(data), Json::parse("[[[1,2],[3],true], [[1],[4,5],false], [[1],[6],true], "
                                       "[[1],[7],false]]"));
  EXPECT_EQ(data.desirable_rows(), 2);
  EXPECT_EQ(data.lengths(), (std::vector<int64_t>{3, 3, 2, 2}));
  EXPECT_EQ(data.source(2), (s.folder.path() / "d.jsonl").string() + ":3");
  EXPECT_EQ(s.statistics.notices.at("desirable").count, 2);
  EXPECT_EQ(s.statistics.notices.at("undesirable").count, 2);
  EXPECT_EQ(s.statistics.notices.size(), 2U);
  EXPECT_EQ(s.statistics.tokens, 10);
  EXPECT_EQ(s.statistics.supervised_tokens, 5);
  const Content content = data.content();
  EXPECT_EQ(content.least, 1);
  EXPECT_EQ(content.largest, 7);
}

// Rows of a prompt of 3 and an answer of 2 tokens.
TEST(Answers, AreCutAtTheEnd) {
  const Json rows = {answer({1, 2, 3}, {4, 5}, true), answer({1}, {2}, false)};
  const auto at = [&](int64_t max_length) {
    Setting s;
    return rows_of(s.prepare(rows, {.max_length = max_length}))[0];
  };
  EXPECT_EQ(at(5), Json::parse("[[1,2,3],[4,5],true]"));
  EXPECT_EQ(at(4), Json::parse("[[1,2,3],[4],true]"));
  EXPECT_EQ(at(3), Json::parse("[[1],[2],false]"));  // dropped: the prompt fills max_length
  EXPECT_EQ(at(2), Json::parse("[[1],[2],false]"));
  Setting s;
  s.prepare(rows, {.max_length = 3});
  EXPECT_EQ(s.statistics.dropped.at("nothing to learn is left within max_length (3)").count, 1);
  const AnswerDataset cut = s.prepare(rows, {.max_length = 4});
  EXPECT_EQ(s.statistics.cut.at("longer than max_length (4)").count, 1);
  EXPECT_EQ(s.statistics.tokens, 6);  // 3 + 1 and 1 + 1
  EXPECT_EQ(s.statistics.supervised_tokens, 2);
  EXPECT_EQ(cut.length(0), 4);
  EXPECT_EQ(vector_of(cut.whole_completion(0)), (Ids{4, 5}));
}

TEST(Answers, PairsAreTakenApartWhenAskedFor) {
  const Json rows = {pair(1, 11, 21), pair(2, 12, 22), pair(3, 13, 23)};
  Setting s;
  EXPECT_HAS(user_error([&] { s.prepare(rows); }), "set `unpair`");
  const AnswerDataset data = s.prepare(rows, {.unpair = true});
  EXPECT_EQ(rows_of(data), Json::parse("[[[1],[11],true], [[2],[12],true], [[3],[13],true], "
                                       "[[1],[21],false], [[2],[22],false], [[3],[23],false]]"));
  EXPECT_EQ(data.source(3), (s.folder.path() / "d.jsonl").string() + ":1");
  EXPECT_EQ(s.statistics.rows_read, 3);
  EXPECT_EQ(s.statistics.rows, 6);
  EXPECT_EQ(s.statistics.notices.at("pairs, each taken as two rows").count, 3);
}

TEST(Answers, MembersOfAPairAreCutApart) {
  Setting s;
  const Json rows =
      Json::array({{{"prompt_ids", {1, 2}}, {"chosen_ids", {3}}, {"rejected_ids", {4, 5, 6}}}});
  EXPECT_EQ(rows_of(s.prepare(rows, {.max_length = 4, .unpair = true})),
            Json::parse("[[[1,2],[3],true], [[1,2],[4,5],false]]"));
}

TEST(Answers, ASetOfOneClassIsNamed) {
  Setting s;
  s.prepare(Json{answer({1}, {2}, true), answer({1}, {3}, true)});
  EXPECT_EQ(s.statistics.notices.at("every row is desirable").count, 2);
  s.prepare(Json{answer({1}, {2}, false), answer({1}, {3}, false)});
  EXPECT_EQ(s.statistics.notices.at("every row is undesirable").count, 2);
}

TEST(Answers, TextGetsEosAndConversationsTheirTemplate) {
  Setting s("byte_level_bos");
  const Json rows = {{{"prompt", "the"}, {"completion", " cat"}, {"label", true}},
                     {{"prompt", "the"}, {"completion", " cat<|endoftext|>"}, {"label", false}}};
  const AnswerDataset data = s.prepare(rows);
  for (int64_t row = 0; row < 2; ++row) {
    EXPECT_EQ(s.model.tokenizer.decode(joined(data.prompt(row), data.completion(row)),
                                       /*skip_special=*/false),
              "<s>the cat<|endoftext|>");
  }
  const AnswerDataset chat = s.prepare(Json::array({{{"prompt", {message("user", "the")}},
                                                     {"completion", {message("assistant", "cat")}},
                                                     {"label", true}}}));
  EXPECT_EQ(s.model.tokenizer.decode(chat.completion(0), /*skip_special=*/false),
            "cat<|im_end|>\n");
}

TEST(Answers, BadRowsAreFoundAtOnce) {
  Setting s;
  const Json rows = {answer({1}, {}, true), answer({}, {2}, true), answer({1}, {2}, "good"),
                     answer({1}, {2}, false)};
  const std::string error = user_error([&] { s.prepare(rows); });
  EXPECT_HAS(error, "d.jsonl:1] a token of `completion` with one before it was expected");
  EXPECT_HAS(error, "d.jsonl:2] a token of `completion` with one before it was expected");
  EXPECT_HAS(error, "d.jsonl:3] `label` was expected to be true or false, got \"good\".");
  EXPECT_EQ(s.prepare(rows, {.text = {.on_bad_row = OnBadRow::drop}}).rows(), 1);
  EXPECT_HAS(user_error([&] {
               s.prepare(Json::array({{{"prompt", "a"}, {"completion", "b"}}}));
             }),
             "columns `prompt`, `completion` and `label`");
}

TEST(Answers, EveryOptionIsPartOfTheKey) {
  const AnswerOptions base;
  std::vector<AnswerOptions> others(3, base);
  others[0].max_length.reset();
  others[1].unpair = true;
  others[2].text.stop_ids = {3};
  for (const auto& other : others) EXPECT_NE(other.key(), base.key());
}

}  // namespace
}  // namespace rlhf
