// A thousand batches with workers that die, hang, lie and are late, each item as its key says: no
// reward may be wrong, and each failure must be the one that was scheduled.
#include <gtest/gtest.h>

#include <map>

#include "worker_case.h"

namespace rlhf {
namespace {

constexpr int64_t kBatches = 1000;
constexpr int64_t kItems = 8;

// The table of tests/rewards/workers/soak.sh.
std::string scheduled(int64_t key) {
  if (key % 1000 == 7 || key % 1000 == 413) return "timed out";
  switch (key % 100) {
    case 11:
      return "signal 9";
    case 29:
      return "exit code 4";
    case 53:
      return "got: no { answer";
    case 71:
      return "\"reward\": 1}";
    case 83:
      return "as told";
    default:
      return "";
  }
}

TEST(WorkerSoak, ThousandBatches) {
  WorkerPool pool({.name = "mine",
                   .command = "exec sh '" + testing::script("soak.sh") + "'",
                   .workers = 3,
                   .timeout = 1.0});
  std::map<std::string, int64_t> counts;
  for (int64_t batch = 0; batch < kBatches; ++batch) {
    for (int64_t i = 0; i < kItems; ++i) pool.submit(testing::question(kItems * batch + i, "-"));
    const auto answers = pool.collect();
    ASSERT_EQ(std::ssize(answers), kItems);
    for (int64_t i = 0; i < kItems; ++i) {
      const auto& answer = answers[static_cast<size_t>(i)];
      const int64_t key = kItems * batch + i;
      const std::string kind = scheduled(key);
      EXPECT_EQ(answer.id, key);
      if (kind.empty()) {
        ASSERT_TRUE(answer.reward) << key << ' ' << answer.failure;
        EXPECT_EQ(*answer.reward, static_cast<double>(3 * key + 1));
      } else {
        EXPECT_FALSE(answer.reward);
        EXPECT_NE(answer.failure.find(kind), std::string::npos) << key << ' ' << answer.failure;
      }
      EXPECT_EQ(answer.timed_out, kind == "timed out");
      ++counts[kind];
    }
  }
  // Of the keys 0 … 7999: two in a thousand hang or are late; of the other endings one in a hundred
  // each.
  const std::map<std::string, int64_t> expected = {
      {"", 8000 - 16 - 5 * 80}, {"timed out", 16},      {"signal 9", 80}, {"exit code 4", 80},
      {"got: no { answer", 80}, {"\"reward\": 1}", 80}, {"as told", 80}};
  EXPECT_EQ(counts, expected);
}

}  // namespace
}  // namespace rlhf
