// Against TRL: tools/make_preference_goldens.py recorded what the DPO, reward and KTO trainers of
// 1.16.0 and the PRM trainer of 1.12.0 make of the same rows.
#include <gtest/gtest.h>

#include "rlhf/data/answers.h"
#include "rlhf/data/pairs.h"
#include "rlhf/data/steps.h"
#include "tests/data/data_setting.h"

namespace rlhf {
namespace {

using Ids = std::vector<int32_t>;

Json golden(const char* name) { return Json::parse(read_file(data_fixture(name))); }

std::optional<int64_t> limit(const Json& options, const char* name,
                             std::optional<int64_t> otherwise) {
  return options.contains(name) ? options.at(name).get<int64_t>() : otherwise;
}

/// A row as TRL's collators hand it over; the first token of a row is never predicted.
Json scored_row(std::span<const int32_t> prompt, std::span<const int32_t> answer) {
  Json scored = Json::array();
  for (size_t i = 0; i < prompt.size() + answer.size(); ++i)
    scored.push_back(i >= prompt.size() ? 1 : 0);
  return {{"ids", joined(prompt, answer)}, {"scored", scored}};
}

TEST(PreferenceParity, DpoRows) {
  for (const Json& c : golden("pairs.json").at("dpo")) {
    SCOPED_TRACE(c.at("name").get<std::string>());
    const DataSetting s(c.at("tokenizer").get<std::string>());
    const Json& given = c.at("options");
    const PairOptions options{.max_length = limit(given, "max_length", 1024),
                              .truncation_mode = given.value("truncation_mode", "") == "keep_end"
                                                     ? TruncationMode::keep_end
                                                     : TruncationMode::keep_start};
    const PairDataset data = prepare_pairs(s.spec(c.at("rows")), s.model.tokenizer, s.model.chat,
                                           s.fingerprint, options, s.cache(), nullptr);
    const Json& expected = c.at("expected");
    ASSERT_EQ(data.rows(), std::ssize(expected));
    for (int64_t row = 0; row < data.rows(); ++row) {
      const Json& wanted = expected[static_cast<size_t>(row)];
      EXPECT_EQ(scored_row(data.chosen_prompt(row), data.chosen(row)), wanted.at("chosen"));
      EXPECT_EQ(scored_row(data.rejected_prompt(row), data.rejected(row)), wanted.at("rejected"));
    }
  }
}

TEST(PreferenceParity, RewardRows) {
  for (const Json& c : golden("pairs.json").at("reward")) {
    SCOPED_TRACE(c.at("name").get<std::string>());
    const DataSetting s(c.at("tokenizer").get<std::string>());
    const PairOptions options{.mode = PairMode::reward,
                              .max_length = limit(c.at("options"), "max_length", 1024)};
    const PairDataset data = prepare_pairs(s.spec(c.at("rows")), s.model.tokenizer, s.model.chat,
                                           s.fingerprint, options, s.cache(), nullptr);
    const Json& expected = c.at("expected");
    ASSERT_EQ(data.rows(), std::ssize(expected));
    for (int64_t row = 0; row < data.rows(); ++row) {
      const Json& wanted = expected[static_cast<size_t>(row)];
      EXPECT_EQ(joined(data.prompt(row), data.chosen(row)), wanted.at("chosen").get<Ids>());
      EXPECT_EQ(joined(data.prompt(row), data.rejected(row)), wanted.at("rejected").get<Ids>());
      const auto margin = data.margin(row);
      EXPECT_EQ(margin ? Json(*margin) : Json(),
                wanted.at("margin").is_null() ? Json() : Json(wanted.at("margin").get<float>()));
    }
  }
}

TEST(PreferenceParity, KtoRows) {
  for (const Json& c : golden("answers.json").at("cases")) {
    SCOPED_TRACE(c.at("name").get<std::string>());
    const DataSetting s(c.at("tokenizer").get<std::string>());
    const AnswerOptions options{.max_length = limit(c.at("options"), "max_length", 1024),
                                .unpair = true};
    const AnswerDataset data =
        prepare_answers(s.spec(c.at("rows")), s.model.tokenizer, s.model.chat, s.fingerprint,
                        options, s.cache(), nullptr);
    const Json& expected = c.at("expected");
    ASSERT_EQ(data.rows(), std::ssize(expected));
    for (int64_t row = 0; row < data.rows(); ++row) {
      Json got = scored_row(data.prompt(row), data.completion(row));
      got["label"] = data.desirable(row);
      EXPECT_EQ(got, expected[static_cast<size_t>(row)]);
    }
  }
}

TEST(PreferenceParity, OrderOfUnpairedRows) {
  const Json unpaired = golden("answers.json").at("unpaired");
  const DataSetting s;
  Json rows = Json::array();
  for (int64_t i = 0; i < unpaired.at("pairs").get<int64_t>(); ++i)
    rows.push_back({{"prompt_ids", {i}}, {"chosen_ids", {1}}, {"rejected_ids", {2}}});
  const AnswerDataset data = prepare_answers(s.spec(rows), s.model.tokenizer, s.model.chat,
                                             s.fingerprint, {.unpair = true}, s.cache(), nullptr);
  int64_t row = 0;
  for (const Json& run : unpaired.at("runs")) {
    for (int64_t i = 0; i < run[1].get<int64_t>(); ++i, ++row) {
      ASSERT_EQ(data.prompt(row)[0], run[0].get<int64_t>() + i);
      ASSERT_EQ(data.desirable(row), run[2].get<bool>());
    }
  }
  EXPECT_EQ(row, data.rows());
}

TEST(PreferenceParity, PrmRows) {
  for (const Json& c : golden("steps.json")) {
    SCOPED_TRACE(c.at("name").get<std::string>());
    const DataSetting s(c.at("tokenizer").get<std::string>());
    const Json& given = c.at("options");
    const StepsOptions options{
        .max_length = limit(given, "max_length", 1024),
        .max_completion_length = limit(given, "max_completion_length", std::nullopt),
        .step_separator = given.value("step_separator", "\n"),
        .train_on_last_step_only = given.value("train_on_last_step_only", false)};
    const StepsDataset data = prepare_steps(s.spec(c.at("rows")), s.model.tokenizer, s.fingerprint,
                                            options, s.cache(), nullptr);
    // TRL keeps rows of which no label is left; they teach nothing.
    std::vector<Json> expected;
    for (const Json& row : c.at("expected")) {
      const Ids labels = row.at("labels").get<Ids>();
      if (std::any_of(labels.begin(), labels.end(), [](int32_t label) { return label != -100; }))
        expected.push_back(row);
    }
    ASSERT_EQ(data.rows(), std::ssize(expected));
    for (int64_t row = 0; row < data.rows(); ++row) {
      const Json& wanted = expected[static_cast<size_t>(row)];
      EXPECT_EQ(vector_of(data.ids(row)), wanted.at("ids").get<Ids>());
      EXPECT_EQ(vector_of(data.labels(row)), wanted.at("labels").get<Ids>());
    }
  }
}

}  // namespace
}  // namespace rlhf
