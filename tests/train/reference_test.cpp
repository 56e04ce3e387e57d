// The ways to a second model give the same log-probabilities.
#include "rlhf/train/reference.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "sft_case.h"

namespace rlhf {
namespace {

// Read from its maps, in memory from the first batch to let_go(), and read again.
TEST(Reference, ReadWhenItIsAskedIsTheModel) {
  const fs::path folder = testing::fixtures() / "model";
  const auto held = Reference::from_model(
      std::make_shared<Model>(load_model(folder, {.dtype = at::kFloat})), /*temperature=*/0.7);
  const auto mapped = std::make_shared<Model>(load_model(folder));
  ASSERT_TRUE(is_mapped(*mapped));
  const auto read = Reference::from_maps(mapped, at::kFloat, /*temperature=*/0.7);
  const std::vector<int32_t> ids = {5, 9, 3, 7, 11, 4};
  std::vector<AnswerBatch> batches;
  for (const size_t cut : {2U, 4U}) {
    const std::span<const int32_t> all(ids);
    const std::vector<PackPrompt> prompts = {
        {.ids = all.first(cut), .answers = {{.ids = all.subspan(cut), .row = 0}}}};
    batches.push_back({.packed = batch_prompts(prompts), .rows = {0}});
  }
  const auto expected = held.logprobs(batches);
  ASSERT_EQ(expected.front().size(0), 4);
  for (int ask = 0; ask < 2; ++ask) {
    const auto found = read.logprobs(batches);
    for (size_t i = 0; i < batches.size(); ++i) EXPECT_TRUE(found[i].equal(expected[i])) << i;
    const auto one = read.logprobs(batches[1].packed, batches[1].rows);
    EXPECT_TRUE(one.equal(expected[1]));
    read.let_go();
  }
}

}  // namespace
}  // namespace rlhf
