// The formats on real data: GSM8K (columns renamed) and the harmless part of HH (implicit prompts,
// gzip).
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>

#include "rlhf/data/encode.h"
#include "rlhf/data/source.h"
#include "tests/data/model_folder.h"

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
  const RowSet set({.sources = {{.path = folder, .split = "test"}}},
                   std::array{RowType::preference});
  const ModelFolder model("byte_level");
  const Encoder encoder(model.tokenizer, nullptr, {});
  RowSet::Cursor cursor(set);
  Record record;
  for (int64_t row = 0; row < set.rows(); row += 23) {
    ASSERT_FALSE(cursor.read(row, record).has_value());
    const EncodedPair pair = encoder.pair(record, set.schema(row));
    std::vector<int32_t> chosen = pair.prompt;
    chosen.insert(chosen.end(), pair.chosen.begin(), pair.chosen.end());
    ASSERT_EQ(model.tokenizer.decode(chosen, /*skip_special=*/true), record.text("chosen"));
    ASSERT_TRUE(
        model.tokenizer.decode(pair.prompt, /*skip_special=*/true).starts_with("\n\nHuman: "));
  }
}

}  // namespace
}  // namespace rlhf
