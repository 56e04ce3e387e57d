#include "rlhf/data/steps.h"

#include <gtest/gtest.h>

#include "tests/data/data_setting.h"

namespace rlhf {
namespace {

using Ids = std::vector<int32_t>;

struct Setting : DataSetting {
  using DataSetting::DataSetting;
  template <class Rows>
  StepsDataset prepare(const Rows& rows, const StepsOptions& options = {}) {
    return prepare_steps(spec(rows), model.tokenizer, fingerprint, options, cache(), &statistics);
  }
  /// The text in front of each label, up to the one before, and the label.
  Json labelled(const StepsDataset& data, int64_t row) const {
    Json out = Json::array();
    Ids piece;
    for (size_t i = 0; i < data.ids(row).size(); ++i) {
      piece.push_back(data.ids(row)[i]);
      if (data.labels(row)[i] == StepsDataset::kNotLearned) continue;
      out.push_back({model.tokenizer.decode(piece, /*skip_special=*/false), data.labels(row)[i]});
      piece.clear();
    }
    EXPECT_TRUE(piece.empty());
    return out;
  }
};

// Two steps, of two tokens and one.
const Json kGiven = {
    {"prompt_ids", {1, 2}}, {"completions_ids", {{3, 4}, {5}}}, {"labels", {true, false}}};

TEST(Steps, LabelsStandOnTheLastTokenOfAStep) {
  Setting s;
  const StepsDataset data = s.prepare(Json::array({kGiven}));
  EXPECT_EQ(vector_of(data.ids(0)), (Ids{1, 2, 3, 4, 5}));
  EXPECT_EQ(vector_of(data.labels(0)), (Ids{-100, -100, -100, 1, 0}));
  EXPECT_EQ(data.lengths(), std::vector<int64_t>{5});
  EXPECT_EQ(s.statistics.supervised_tokens, 2);
  EXPECT_EQ(s.statistics.tokens, 5);
  EXPECT_EQ(s.statistics.table().find("EOS"), std::string::npos);
  const Content content = data.content();
  EXPECT_EQ(content.least, 1);  // labels are no ids
  EXPECT_EQ(content.largest, 5);
  EXPECT_EQ(
      vector_of(s.prepare(Json::array({kGiven}), {.train_on_last_step_only = true}).labels(0)),
      (Ids{-100, -100, -100, -100, 0}));
}

TEST(Steps, AreCutAtTheEnd) {
  const auto labels = [](const StepsOptions& options) {
    Setting s;
    const StepsDataset data = s.prepare(Json::array({kGiven}), options);
    return vector_of(data.labels(0));
  };
  EXPECT_EQ(labels({.max_length = 5}), (Ids{-100, -100, -100, 1, 0}));
  EXPECT_EQ(labels({.max_length = 4}), (Ids{-100, -100, -100, 1}));
  EXPECT_EQ(labels({.max_completion_length = 2}), (Ids{-100, -100, -100, 1}));
  EXPECT_EQ(labels({.max_length = 4, .max_completion_length = 2}), (Ids{-100, -100, -100, 1}));
  Setting s;
  const Json rows = {kGiven, {{"prompt_ids", {1}}, {"completions_ids", {{2}}}, {"labels", {true}}}};
  EXPECT_EQ(s.prepare(rows, {.max_length = 3}).rows(), 1);
  EXPECT_EQ(s.statistics.dropped.at("no label is left within max_length (3)").count, 1);
  EXPECT_EQ(s.prepare(rows, {.max_completion_length = 1}).rows(), 1);
  EXPECT_EQ(s.statistics.dropped.at("no label is left within max_completion_length (1)").count, 1);
  EXPECT_EQ(s.prepare(rows, {.max_length = 4}).rows(), 2);
  EXPECT_EQ(s.statistics.cut.at("longer than max_length (4)").count, 1);
}

TEST(Steps, TextGetsBosAndSeparators) {
  const Json rows = Json::array({{{"prompt", "the sky?"},
                                  {"completions", {"it is blue", "", "so it is"}},
                                  {"labels", {1, 0, true}}}});
  Setting plain;
  EXPECT_EQ(plain.labelled(plain.prepare(rows), 0),
            Json::parse(R"([["the sky?it is blue\n", 1], ["\n", 0], ["so it is\n", 1]])"));
  for (const char* name : {"byte_level_bos", "dummy_prefix"}) {
    Setting s(name);
    const StepsDataset data = s.prepare(rows, {.step_separator = " so\n\n"});
    const Json labelled = s.labelled(data, 0);
    ASSERT_EQ(labelled.size(), 3U);
    EXPECT_EQ(data.ids(0)[0], *s.model.tokenizer.bos_id());
    EXPECT_HAS(labelled[0][0].get<std::string>(), "the sky?it is blue so\n\n");
    const auto ids = data.ids(0);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), *s.model.tokenizer.eos_id()), 0);
    // A prompt that carries BOS keeps one.
    Json with_bos = rows;
    with_bos[0]["prompt"] = "<s>the sky?";
    const StepsDataset one = s.prepare(with_bos);
    EXPECT_EQ(std::count(one.ids(0).begin(), one.ids(0).end(), one.ids(0)[0]), 1) << name;
  }
}

TEST(Steps, RefusesWhatCannotBeLabelled) {
  Setting s;
  const Json empty =
      Json::array({{{"prompt", "a"}, {"completions", {"b", ""}}, {"labels", {true, false}}}});
  EXPECT_HAS(user_error([&] { s.prepare(empty, {.step_separator = ""}); }),
             "d.jsonl:1] step 2 was expected to have a token, got none.");
  EXPECT_HAS(
      user_error([&] {
        s.prepare(Json::array(
            {{{"prompt", {message("user", "a")}}, {"completions", {"b"}}, {"labels", {true}}}}));
      }),
      "a prompt of text was expected; the rows are of type stepwise (conversational).");
  EXPECT_HAS(user_error([&] {
               s.prepare(Json::array({{{"prompt", "a"}, {"completion", "b"}}}));
             }),
             "columns `prompt`, `completions` and `labels` were expected");
  EXPECT_HAS(user_error([&] { s.prepare(Json::array({kGiven}), {.max_completion_length = 0}); }),
             "[max_completion_length]");
}

TEST(Steps, EveryOptionIsPartOfTheKey) {
  const StepsOptions base;
  std::vector<StepsOptions> others(5, base);
  others[0].max_length.reset();
  others[1].max_completion_length = 8;
  others[2].step_separator = " ";
  others[3].train_on_last_step_only = true;
  others[4].on_bad_row = OnBadRow::drop;
  for (const auto& other : others) EXPECT_NE(other.key(), base.key());
}

}  // namespace
}  // namespace rlhf
