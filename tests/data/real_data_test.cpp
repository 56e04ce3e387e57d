// The formats on real data: GSM8K (columns renamed) and the harmless part of HH (implicit prompts,
// gzip).
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>

#include "rlhf/data/pairs.h"
#include "tests/data/data_setting.h"

namespace rlhf {
namespace {

fs::path real_data(const char* name) {
  const char* folder = std::getenv("RLHF_DATA");
  return (folder != nullptr ? fs::path(folder) : fs::path(RLHF_FIXTURES) / "../../../shared/data") /
         name;
}

TEST(RealData, Gsm8kRowsAreAllGood) {
  const fs::path folder = real_data("gsm8k");
  if (!fs::exists(folder)) GTEST_SKIP() << "no data";
  const DataSpec spec{
      .sources = {{.path = folder,
                   .reshape = {.rename = {{"prompt", "question"}, {"completion", "answer"}}}}}};
  const RowSet set(spec, std::array{RowType::prompt_completion});
  EXPECT_EQ(set.rows(), 7473);
  RowSet::Cursor cursor(set);
  Record record;
  for (int64_t row = 0; row < set.rows(); ++row) {
    ASSERT_FALSE(cursor.read(row, record).has_value());
    ASSERT_NE(record.text("completion").find("####"), std::string::npos);
  }
}

TEST(RealData, HarmlessPairsShareAPromptThatEndsBeforeTheAnswers) {
  const fs::path folder = real_data("hh-harmless");
  if (!fs::exists(folder)) GTEST_SKIP() << "no data";
  const DataSpec spec{.sources = {{.path = folder, .split = "test"}}};
  const RowSet set(spec, std::array{RowType::preference});
  const DataSetting s;
  Statistics statistics;
  const PairDataset data = prepare_pairs(spec, s.model.tokenizer, std::nullopt, s.fingerprint,
                                         {.max_length = std::nullopt}, s.cache(), &statistics);
  ASSERT_EQ(data.rows(), set.rows());
  EXPECT_EQ(statistics.eos_rows, data.rows());
  RowSet::Cursor cursor(set);
  Record record;
  int64_t ends_behind_assistant = 0;
  for (int64_t row = 0; row < set.rows(); ++row) {
    ASSERT_FALSE(cursor.read(row, record).has_value());
    const auto text = [&](const std::vector<int32_t>& ids) {
      return s.model.tokenizer.decode(ids, /*skip_special=*/true);
    };
    ASSERT_EQ(text(joined(data.prompt(row), data.chosen(row))), record.text("chosen"));
    ASSERT_EQ(text(joined(data.prompt(row), data.rejected(row))), record.text("rejected"));
    const std::string prompt = text(vector_of(data.prompt(row)));
    ASSERT_TRUE(prompt.starts_with("\n\nHuman: "));
    ends_behind_assistant += prompt.ends_with("\n\nAssistant:") ? 1 : 0;
    // The prompt ends at a token's end in both, and no sooner than it must: the next tokens differ
    // or reach beyond the text that both share.
    const std::string next =
        prompt + text({data.chosen(row).front()}) + text({data.rejected(row).front()});
    ASSERT_FALSE(record.text("chosen").starts_with(next) &&
                 record.text("rejected").starts_with(next));
  }
  // Most answers differ from their first word on.
  EXPECT_GT(ends_behind_assistant, data.rows() / 2);
}

}  // namespace
}  // namespace rlhf
