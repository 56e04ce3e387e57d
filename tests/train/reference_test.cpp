// The ways to a second model give the same log-probabilities.
#include "rlhf/train/reference.h"

#include <ATen/ATen.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>

#include "sft_case.h"

namespace rlhf {
namespace {

/// Bytes that this thread took from libtorch's allocator in its life and has not given back.
class HeldBytes {
 public:
  int64_t now() const { return counter_->bytes; }

 private:
  struct Counter : c10::MemoryReportingInfoBase {
    void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
      bytes += size;
    }
    bool memoryProfilingEnabled() const override { return true; }
    int64_t bytes = 0;
  };
  std::shared_ptr<Counter> counter_ = std::make_shared<Counter>();
  c10::DebugInfoGuard guard_{c10::DebugInfoKind::PROFILER_STATE, counter_};
};

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

TEST(Reference, HoldsItsWeightsNoLongerThanItIsAsked) {
  const auto mapped = std::make_shared<Model>(load_model(testing::fixtures() / "model"));
  int64_t weights = 0;
  for (const auto& [name, tensor] : mapped->decoder.tensors()) weights += 4 * tensor.numel();
  const auto read = Reference::from_maps(mapped, at::kFloat);
  const std::vector<int32_t> ids = {5, 9, 3, 7, 11, 4};
  const std::span<const int32_t> all(ids);
  const std::vector<PackPrompt> prompts = {
      {.ids = all.first(2), .answers = {{.ids = all.subspan(2), .row = 0}}}};
  const auto batch = batch_prompts(prompts);
  const std::vector<int64_t> rows = {0};
  const HeldBytes held;
  for (int ask = 0; ask < 2; ++ask) {
    EXPECT_EQ(read.logprobs(batch, rows).size(0), 4);
    EXPECT_GE(held.now(), weights);
    read.let_go();
    // Room for small things that a first pass makes once.
    EXPECT_LT(held.now(), weights / 10);
  }
}

}  // namespace
}  // namespace rlhf
