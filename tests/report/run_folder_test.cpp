#include "rlhf/report/run_folder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

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

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += fmt::format("{:02x}", static_cast<uint8_t>(byte));
  return text;
}

TEST(TensorBoard, RecordsAreThoseOfItsOwnWriterByteForByte) {
  // Recorded by tools/make_tensorboard_events.py.
  const Json fixture = Json::parse(read_file(fs::path(RLHF_FIXTURES) / "report/events.json"));
  const double wall_time = fixture.at("wall_time").get<double>();
  EXPECT_EQ(hex(tensorboard_version_record(wall_time)), fixture.at("version"));
  for (const auto& start : fixture.at("start")) {
    EXPECT_EQ(hex(tensorboard_start_record(wall_time, start.at("step").get<int64_t>())),
              start.at("bytes"));
  }
  for (const auto& record : fixture.at("scalars")) {
    std::vector<std::pair<std::string, double>> scalars;
    for (const auto& [tag, value] :
         record.at("scalars").get<std::vector<std::pair<std::string, std::string>>>())
      scalars.emplace_back(tag, std::stod(value));
    const auto step = record.at("step").get<int64_t>();
    EXPECT_EQ(hex(tensorboard_scalars_record(wall_time, step, scalars)), record.at("bytes"))
        << step;
  }
}

/// The records of the only event file in `folder` without wall times and checksums.
std::vector<std::string> payloads(const fs::path& folder) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!entry.path().filename().string().starts_with("events.out.tfevents.")) continue;
    const std::string bytes = read_file(entry.path());
    for (size_t at = 0; at < bytes.size();) {
      const auto length = static_cast<uint8_t>(bytes[at]);  // all are shorter than 256 bytes
      found.push_back(bytes.substr(at + 12 + 9, length - 9U));
      at += 12U + length + 4U;
    }
  }
  return found;
}

TEST(TensorBoard, AResumedRunVoidsWhatIsBehindItsCheckpointAndNotTheCheckpointsStep) {
  const fs::path folder = fresh_folder("events");
  RunFolder(folder, 2, /*tensorboard=*/true).log(3, {{"loss", 1.5}, {"eval_loss", 0.5}});
  const auto records = payloads(folder);
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(records[0],
            "\x1a\x0d"
            "brain.Event:2");
  EXPECT_EQ(records[1], "\x10\x03\x3a\x02\x08\x01");  // step 3, a session starts
  EXPECT_NE(records[2].find("train/loss"), std::string::npos);
  EXPECT_NE(records[2].find("eval/loss"), std::string::npos);
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

// JSON text has no number for what is not finite.
TEST(MetricWindow, ANumberThatIsNotFiniteSurvivesACheckpoint) {
  MetricWindow window;
  window.add("loss", std::numeric_limits<double>::infinity());
  MetricWindow again;
  again.set_state(Json::parse(window.state().dump()));
  EXPECT_TRUE(std::isnan(again.take().at("loss").get<double>()));
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
