#include "rlhf/core/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace rlhf {
namespace {

class ThreadsTest : public ::testing::Test {
 protected:
  void TearDown() override { set_worker_threads(before_); }
  int before_ = worker_threads();
};

TEST_F(ThreadsTest, EveryIndexOnceForAnyCut) {
  for (const int threads : {1, 2, 5}) {
    set_worker_threads(threads);
    for (const int64_t n : {0, 1, 7, 64, 65}) {
      for (const int64_t grain : {0, 1, 3, 64, 1000}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
        parallel_pieces(n, grain, [&](int64_t begin, int64_t end) {
          EXPECT_LE(end - begin, std::max<int64_t>(1, grain));
          for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
        });
        for (const auto& count : seen) EXPECT_EQ(count, 1);
      }
    }
  }
}

TEST_F(ThreadsTest, OneThreadWorksInOrder) {
  set_worker_threads(1);
  std::vector<int64_t> begins;
  parallel_pieces(10, 4, [&](int64_t begin, int64_t) { begins.push_back(begin); });
  EXPECT_EQ(begins, (std::vector<int64_t>{0, 4, 8}));
}

TEST_F(ThreadsTest, FirstExceptionStopsTheRest) {
  for (const int threads : {1, 4}) {
    set_worker_threads(threads);
    std::atomic<int> pieces{0};
    const auto work = [&](int64_t begin, int64_t) {
      ++pieces;
      if (begin == 3) throw std::runtime_error("piece 3");
      // On a busy machine the others would be through before the throw is caught.
      if (begin > 3) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    };
    EXPECT_THROW(parallel_pieces(100000, 1, work), std::runtime_error);
    EXPECT_LT(pieces, 100000);
  }
}

TEST_F(ThreadsTest, CountIsAtLeastOne) {
  EXPECT_GE(available_cores(), 1);
  set_worker_threads(0);
  EXPECT_EQ(worker_threads(), 1);
}

}  // namespace
}  // namespace rlhf
