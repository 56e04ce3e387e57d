#include "rlhf/report/run_folder.h"

#include <gtest/gtest.h>

#include "rlhf/core/error.h"
#include "rlhf/report/progress.h"
#include "rlhf/report/tensorboard.h"

namespace rlhf {
namespace {

fs::path fresh_folder(const char* name) {
  const fs::path folder = fs::path(::testing::TempDir()) / "rlhf_report" / name;
  fs::remove_all(folder);
  return folder;
}

TEST(Crc32c, MatchesTheCheckValuesOfRfc3720) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43U);
}

TEST(TensorBoard, FramesHoldTheEventByteForByte) {
  const fs::path folder = fresh_folder("events");
  fs::create_directories(folder);
  TensorBoardWriter writer(folder, 0);
  writer.add(3, {{"train/loss", 1.5}});
  const fs::path file = fs::directory_iterator(folder)->path();
  const std::string bytes = read_file(file);
  // Frame: 8 bytes length, 4 bytes checksum, payload, 4 bytes checksum. The first event: 9 bytes
  // wall time, 2 bytes step 0, 2 + 13 bytes file version.
  const size_t first = 12 + 9 + 2 + 15 + 4;
  ASSERT_GT(bytes.size(), first);
  EXPECT_EQ(bytes.substr(12 + 9 + 2 + 2, 13), "brain.Event:2");
  // The second: tag 2 (step) = 3, then Summary { Value { tag = "train/loss", simple_value = 1.5f }
  // }.
  const std::string expected("\x10\x03\x2a\x13\x0a\x11\x0a\x0atrain/loss\x15\x00\x00\xc0\x3f", 23);
  EXPECT_EQ(bytes.substr(first + 12 + 9, 23), expected);
}

TEST(RunFolder, ResumeDropsLinesThatTheCheckpointDoesNotKnow) {
  const fs::path folder = fresh_folder("resume");
  {
    RunFolder run(folder, 0, /*tensorboard=*/false);
    for (int step = 1; step <= 4; ++step) run.log(step, {{"loss", step * 0.5}});
  }
  append_file(folder / "metrics.jsonl", "{\"step\": 5, \"lo");  // a line cut off by a kill
  RunFolder run(folder, 2, /*tensorboard=*/false);
  run.log(3, {{"loss", 9.0}});
  EXPECT_EQ(read_file(folder / "metrics.jsonl"),
            "{\"step\":1,\"loss\":0.5}\n{\"step\":2,\"loss\":1.0}\n{\"step\":3,\"loss\":9.0}\n");
}

TEST(RunFolder, OneRunAtATime) {
  const fs::path folder = fresh_folder("lock");
  {
    RunFolder run(folder, 0, /*tensorboard=*/false);
    EXPECT_THROW(RunFolder(folder, 0, /*tensorboard=*/false), UserError);
  }
  EXPECT_NO_THROW(RunFolder(folder, 0, /*tensorboard=*/false));
}

TEST(MetricWindow, MeansOverTheWindowAndSurvivesACheckpoint) {
  MetricWindow window;
  window.add("loss", 1.0);
  window.add("loss", 2.0);
  window.add("entropy", 4.0);
  MetricWindow again;
  again.set_state(window.state());
  again.add("loss", 6.0);
  const Json means = again.take();
  EXPECT_DOUBLE_EQ(means.at("loss").get<double>(), 3.0);
  EXPECT_DOUBLE_EQ(means.at("entropy").get<double>(), 4.0);
  EXPECT_TRUE(again.empty());
}

TEST(Progress, OneLineCutToTheTerminal) {
  const Progress progress{.step = 120,
                          .total_steps = 300,
                          .loss = 1.234,
                          .tokens_per_second = 1520,
                          .seconds_left = 125};
  EXPECT_EQ(progress_line(progress, 200),
            "▕████████            ▏ 120/300  40% · loss 1.234 · 1,520 tok/s · 2:05 left");
  EXPECT_EQ(progress_line(progress, 5), "▕████");
}

TEST(Progress, NumbersForPeople) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(-1234567), "-1,234,567");
  EXPECT_EQ(clock_text(3725), "1:02:05");
  EXPECT_EQ(clock_text(-3), "0:00");
}

}  // namespace
}  // namespace rlhf
