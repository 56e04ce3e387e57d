#include <gtest/gtest.h>

#include <cmath>

#include "rlhf/core/error.h"
#include "rlhf/report/histogram.h"
#include "rlhf/report/report_page.h"
#include "rlhf/report/run_record.h"

namespace rlhf {
namespace {

fs::path fresh_folder(const std::string& name) {
  const fs::path folder = fs::path(::testing::TempDir()) / "rlhf_report_page" / name;
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

/// One line of completions.jsonl; `ids` tokens long.
std::string completion_line(int64_t step, int64_t generation, const std::string& prompt, Json text,
                            Json reward, int64_t ids) {
  const Json line = {{"step", step},
                     {"weight_version", step - 1},
                     {"generation", generation},
                     {"prompt", prompt},
                     {"completion", std::move(text)},
                     {"rewards", {{"accuracy", reward}}},
                     {"reward", reward},
                     {"advantage", 0.5},
                     {"finish_reason", "stop"},
                     {"prompt_ids", {1}},
                     {"completion_ids", std::vector<int>(static_cast<size_t>(ids), 7)},
                     {"row", "a.jsonl:1"}};
  return line.dump() + "\n";
}

bool mentions(const std::vector<std::string>& notes, const std::string& text) {
  return std::any_of(notes.begin(), notes.end(),
                     [&](const std::string& note) { return note.find(text) != std::string::npos; });
}

TEST(Metrics, SeriesOverStepsWithGapsAndEvaluations) {
  std::vector<std::string> notes;
  const auto metrics = parse_metrics(
      "{\"step\":1,\"loss\":2.5,\"kl\":null}\n"
      "{\"step\":2,\"loss\":2.0,\"kl\":0.125}\n"
      "{\"step\":2,\"eval_loss\":3.0}\n",
      "m", notes);
  ASSERT_EQ(metrics.size(), 3U);
  EXPECT_EQ(metrics[0].name, "loss");
  EXPECT_EQ(metrics[0].steps, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(metrics[0].values, (std::vector<double>{2.5, 2.0}));
  EXPECT_EQ(metrics[1].name, "kl");
  EXPECT_TRUE(std::isnan(metrics[1].values[0]));
  EXPECT_EQ(metrics[1].values[1], 0.125);
  EXPECT_EQ(metrics[2].name, "eval_loss");
  EXPECT_EQ(metrics[2].steps, (std::vector<int64_t>{2}));
  EXPECT_TRUE(notes.empty());
}

TEST(Metrics, AStepThatStandsAgainReplacesWhatWasSaidFromItOn) {
  std::vector<std::string> notes;
  const auto metrics = parse_metrics(
      "{\"step\":1,\"loss\":1.0}\n{\"step\":2,\"loss\":2.0}\n{\"step\":3,\"loss\":3.0}\n"
      "{\"step\":2,\"loss\":9.0}\n",
      "m", notes);
  EXPECT_EQ(metrics.at(0).steps, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(metrics.at(0).values, (std::vector<double>{1.0, 9.0}));
}

TEST(Metrics, LinesThatCannotBeUsedAreSaidAndTheOthersKept) {
  std::vector<std::string> notes;
  const auto metrics = parse_metrics(
      "{\"step\":1,\"loss\":1.0,\"mood\":\"good\"}\n"
      "{\"step\":2,\"loss\":NaN}\n"
      "[1]\n"
      "{\"step\":1.5,\"loss\":4.0}\n"
      "{\"step\":-1,\"loss\":4.0}\n"
      "{\"step\":99999999999999999999,\"loss\":4.0}\n"
      "\n"
      "{\"step\":8,\"loss\":5.0}\n"
      "{\"step\":9,\"lo",
      "m", notes);
  ASSERT_EQ(metrics.size(), 1U);
  EXPECT_EQ(metrics[0].steps, (std::vector<int64_t>{1, 8}));
  EXPECT_TRUE(mentions(notes, "[m:2]"));
  EXPECT_TRUE(mentions(notes, "[m:3]"));
  EXPECT_TRUE(mentions(notes, "[m:4]"));
  EXPECT_TRUE(mentions(notes, "[m] 2 more lines were left out"));  // lines 5 and 6
  EXPECT_TRUE(mentions(notes, "[m:9] the last line is cut off"));
  EXPECT_TRUE(mentions(notes, "`mood`"));
  EXPECT_EQ(notes.size(), 6U);
}

TEST(Metrics, ALastLineThatIsWholeCountsWithoutItsEnd) {
  std::vector<std::string> notes;
  const auto metrics = parse_metrics("{\"step\":1,\"loss\":1.0}", "m", notes);
  EXPECT_EQ(metrics.size(), 1U);
  EXPECT_TRUE(notes.empty());
}

TEST(Runs, EveryPathThatIsNoneIsNamed) {
  const fs::path folder = fresh_folder("good");
  write_file(folder / "metrics.jsonl", "");
  const fs::path empty = fresh_folder("empty");
  try {
    read_runs({folder, empty, folder / "none", folder / ".." / "good"}, {});
    FAIL() << "no error";
  } catch (const UserError& error) {
    ASSERT_EQ(error.problems().size(), 3U);
    EXPECT_NE(error.problems()[0].what.find("no metrics.jsonl"), std::string::npos);
    EXPECT_NE(error.problems()[1].what.find("nothing of this name"), std::string::npos);
    EXPECT_NE(error.problems()[2].what.find("twice"), std::string::npos);
  }
}

TEST(Runs, AnEmptyRunIsShownWithWhatItLacks) {
  const fs::path folder = fresh_folder("new");
  write_file(folder / "metrics.jsonl", "");
  const auto runs = read_runs({folder}, {});
  ASSERT_EQ(runs.size(), 1U);
  EXPECT_EQ(runs[0].name, "new");
  EXPECT_FALSE(runs[0].completions.present);
  EXPECT_TRUE(mentions(runs[0].notes, "no step is logged yet"));
  EXPECT_TRUE(mentions(runs[0].notes, "config.yaml"));
  EXPECT_NO_THROW(report_page(runs, {}));
}

TEST(Runs, ConfigurationKeepsItsTextAndABrokenOneIsANote) {
  const fs::path folder = fresh_folder("config");
  write_file(folder / "metrics.jsonl", "");
  write_file(folder / "config.yaml",
             "learning_rate: 5.0e-05\nsave_strategy: \"no\"\nseed: 7\nbeta: null\n"
             "reward_funcs:\n  - accuracy\n  - regex: x\n");
  const std::vector<std::pair<std::string, std::string>> expected = {
      {"learning_rate", "5.0e-05"},
      {"save_strategy", "no"},
      {"seed", "7"},
      {"beta", "null"},
      {"reward_funcs", "[accuracy, {regex: x}]"}};
  EXPECT_EQ(read_runs({folder}, {})[0].config, expected);
  write_file(folder / "config.yaml", "a: [1\n");
  EXPECT_TRUE(mentions(read_runs({folder}, {})[0].notes, "config.yaml:"));
}

TEST(Runs, NamesAreAsLongAsTellsThemApart) {
  EXPECT_EQ(distinct_names({"/r/a/", "/r/b", "/r/./c/../d"}),
            (std::vector<std::string>{"a", "b", "d"}));
  EXPECT_EQ(distinct_names({"/r/x/a", "/r/y/a", "/r/b"}),
            (std::vector<std::string>{"x/a", "y/a", "b"}));
}

TEST(Completions, NumbersOfAllAndTextsOfWholeGroupsSpreadEvenly) {
  const fs::path folder = fresh_folder("groups");
  std::string lines;
  for (int64_t g = 0; g < 9; ++g) {  // nine groups of two: lines 0, 1 | 2, 3 | ...
    for (int64_t i = 0; i < 2; ++i)
      lines += completion_line(g + 1, g, fmt::format("p{}", g), "t", g * 2 + i, 3 + i);
  }
  write_file(folder / "c", lines);
  std::vector<std::string> notes;
  const auto log = read_completions(folder / "c", {.completions = 7}, notes);
  EXPECT_EQ(log.steps.size(), 18U);
  ASSERT_EQ(log.judges, (std::vector<std::string>{"accuracy"}));
  EXPECT_EQ(log.quantities.at(0).name, "reward");
  EXPECT_EQ(log.quantities.at(0).values.at(17), 17.0);
  EXPECT_EQ(log.quantities.at(3).name, "length");
  EXPECT_EQ(log.quantities.at(3).values.at(17), 4.0);
  // 9 * 7 / 18 = 3 groups: the first, the one in the middle, the last.
  std::vector<double> kept;
  for (const auto& row : log.kept) kept.push_back(row.at("reward").get<double>());
  EXPECT_EQ(kept, (std::vector<double>{0, 1, 8, 9, 16, 17}));
  EXPECT_EQ(log.kept.at(2).at("group"), 4);
  EXPECT_EQ(log.prompts.at(log.kept.at(4).at("prompt").get<size_t>()).at("text"), "p8");
  EXPECT_TRUE(mentions(notes, "holds 6 of 18 completions"));
}

TEST(Completions, AGroupLargerThanTheCapIsCut) {
  const fs::path folder = fresh_folder("large_group");
  std::string lines;
  for (int i = 0; i < 5; ++i) lines += completion_line(1, 0, "p", "t", i, 1);
  write_file(folder / "c", lines);
  std::vector<std::string> notes;
  EXPECT_EQ(read_completions(folder / "c", {.completions = 3}, notes).kept.size(), 3U);
  EXPECT_TRUE(read_completions(folder / "c", {.completions = 0}, notes).kept.empty());
  EXPECT_EQ(read_completions(folder / "c", {.completions = 5}, notes).kept.size(), 5U);
}

TEST(Completions, LongTextsAreCutBetweenCharacters) {
  const fs::path folder = fresh_folder("long");
  write_file(folder / "c", completion_line(1, 0, "äöü", "日本語のテキスト", 1.0, 1));
  std::vector<std::string> notes;
  const auto log = read_completions(folder / "c", {.text_characters = 3}, notes);
  EXPECT_EQ(log.kept.at(0).at("text"), "日本語");
  EXPECT_EQ(log.kept.at(0).at("cut"), 5);
  EXPECT_EQ(log.prompts.at(0).at("text"), "äöü");
  EXPECT_EQ(log.prompts.at(0).at("cut"), 0);
}

TEST(Completions, WhatALineLacksIsNull) {
  const fs::path folder = fresh_folder("lacks");
  write_file(folder / "c",
             "{\"step\":3,\"rewards\":{\"a\":\"x\"}}\n{\"step\":4,\"rewards\":{\"b\":1}}\n");
  std::vector<std::string> notes;
  const auto log = read_completions(folder / "c", {}, notes);
  EXPECT_TRUE(notes.empty());
  ASSERT_EQ(log.kept.size(), 2U);
  EXPECT_EQ(log.kept[0].at("rewards"), Json::parse("[null, null]"));
  EXPECT_EQ(log.kept[1].at("rewards"), Json::parse("[null, 1]"));
  for (const char* key : {"reward", "advantage", "length", "finish", "failures", "row"})
    EXPECT_TRUE(log.kept[0].at(key).is_null()) << key;
}

TEST(Completions, NoFileIsNoLog) {
  std::vector<std::string> notes;
  EXPECT_FALSE(read_completions(fresh_folder("no_file") / "c", {}, notes).present);
  EXPECT_TRUE(notes.empty());
}

TEST(Histogram, FewValuesHaveABinEach) {
  const auto bins = bins_of({1.0, 0.0, 0.5, 1.0, NAN});
  EXPECT_EQ(bins.low, (std::vector<double>{0.0, 0.5, 1.0}));
  EXPECT_EQ(bins.high, bins.low);
  EXPECT_TRUE(bins_of({NAN, INFINITY}).low.empty());
}

TEST(Histogram, WholeNumbersFallIntoBinsOfEquallyMany) {
  std::vector<double> values;
  for (int i = 1; i <= 100; ++i) values.push_back(i);
  const auto bins = bins_of(values);  // ceil(100 / 32) = 4 numbers a bin
  ASSERT_EQ(bins.low.size(), 25U);
  EXPECT_EQ(bins.low[1], 5.0);
  EXPECT_EQ(bins.high[1], 8.0);
  EXPECT_EQ(bins.high[24], 100.0);
}

TEST(Histogram, OtherNumbersFallIntoBinsOfOneWidth) {
  std::vector<double> values;
  for (int i = 0; i <= 40; ++i) values.push_back(-1.0 + 0.2 * i);  // -1 to 7: width 8 / 32
  const auto bins = bins_of(values);
  ASSERT_EQ(bins.low.size(), kWideBins);
  EXPECT_DOUBLE_EQ(bins.low[1], -0.75);
  EXPECT_DOUBLE_EQ(bins.high[31], 7.0);
  const auto far = bins_of([] {
    std::vector<double> ends = {-1.7e308, 1.7e308};
    for (int i = 0; i < 20; ++i) ends.push_back(0.1 * i + 0.05);
    return ends;
  }());
  for (const double low : far.low) EXPECT_TRUE(std::isfinite(low));
}

TEST(Histogram, CountsByStretchOfStepsOverAllRuns) {
  RunRecord a;
  a.completions.steps = {1, 1, 50, 81};
  a.completions.quantities = {{.name = "reward", .values = {0.0, 1.0, 1.0, NAN}}};
  RunRecord b;
  b.completions.steps = {2};
  b.completions.quantities = {{.name = "reward", .values = {2.0}}};
  const auto histograms = make_histograms({a, RunRecord{}, b});
  // Steps 1 to 81 in 40 ranges: range i ends at 1 + floor(i * 81 / 40) - 1: 2, 4, 6, ..., 81.
  ASSERT_EQ(histograms.last_steps.size(), 40U);
  EXPECT_EQ(histograms.first_step, 1);
  EXPECT_EQ(histograms.last_steps[0], 2);
  EXPECT_EQ(histograms.last_steps[39], 81);
  ASSERT_EQ(histograms.quantities.size(), 1U);
  const auto& reward = histograms.quantities[0];
  EXPECT_EQ(reward.bins.low, (std::vector<double>{0.0, 1.0, 2.0}));
  ASSERT_EQ(reward.runs.size(), 2U);
  EXPECT_EQ(reward.runs[1].run, 2U);
  EXPECT_EQ(reward.runs[0].counts[0], (std::vector<int64_t>{1, 1, 0}));
  // floor(24 * 81 / 40) = 48, floor(25 * 81 / 40) = 50: step 50 is in range 24.
  EXPECT_EQ(reward.runs[0].counts[24], (std::vector<int64_t>{0, 1, 0}));
  EXPECT_EQ(reward.runs[0].counts[39], (std::vector<int64_t>{0, 0, 0}));
  EXPECT_EQ(reward.runs[1].counts[0], (std::vector<int64_t>{0, 0, 1}));
}

/// The JSON between the opening of the data element and the first end tag behind it, as a browser
/// finds it.
Json data_of(const std::string& page) {
  const std::string open = "<script id=\"data\" type=\"application/json\">";
  const size_t begin = page.find(open) + open.size();
  return Json::parse(page.substr(begin, page.find("</script", begin) - begin));
}

TEST(Page, HostileTextStaysText) {
  const std::string hostile =
      "</script><script>alert(1)</script><!-- \xE2\x80\xA8 \x01 \" \\ &lt; <!--insert data-->";
  const fs::path folder = fresh_folder("hostile");
  write_file(folder / "metrics.jsonl", Json({{"step", 1}, {"</script>", 1.0}}).dump() + "\n");
  std::string line = completion_line(1, 0, hostile, hostile, 1.0, 2);
  line.insert(line.find("alert"), "\xFF\xC0");  // bytes that are not UTF-8
  write_file(folder / "completions.jsonl", line);
  const auto runs = read_runs({folder}, {});
  const std::string page = report_page(runs, {});
  const Json data = data_of(page);
  EXPECT_EQ(data, report_data(runs, {}));
  const Json& run = data.at("runs").at(0);
  EXPECT_EQ(run.at("metrics").at(0).at("name"), "</script>");
  EXPECT_EQ(run.at("completions").at("kept").at(0).at("text"), hostile);
  EXPECT_NE(run.at("completions")
                .at("prompts")
                .at(0)
                .at("text")
                .get<std::string>()
                .find("\xEF\xBF\xBD"
                      "\xEF\xBF\xBD"
                      "alert"),
            std::string::npos);
}

TEST(Page, NumbersKeepSevenDigitsAndGapsAreNull) {
  RunRecord run;
  run.metrics = {{.name = "a", .steps = {1, 2}, .values = {1.0 / 3.0, NAN}},
                 {.name = "b", .steps = {1, 2}, .values = {123456789.0, -1e-300}}};
  const Json data = report_data({run}, {});
  EXPECT_EQ(data.at("axes"), Json::parse("[[1, 2]]"));
  const Json& metrics = data.at("runs").at(0).at("metrics");
  EXPECT_EQ(metrics.at(0).at("values"), Json::parse("[0.3333333, null]"));
  EXPECT_EQ(metrics.at(1).at("values"), Json::parse("[123456800.0, -1e-300]"));
}

TEST(Page, HoldsItsLibraryWithItsLicenceAndNamesNoOtherFile) {
  const std::string page = report_page({RunRecord{}}, {});
  EXPECT_NE(page.find("Chart.js v3.9"), std::string::npos);
  EXPECT_NE(page.find("Permission is hereby granted"), std::string::npos);
  EXPECT_EQ(page.find("<!--insert"), std::string::npos);
  for (const char* outside : {"<link", " src=", "@import", "url("})
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  // One end tag for each element: no script ends early.
  size_t ends = 0;
  for (size_t at = 0; (at = page.find("</script", at)) != std::string::npos; ++at) ++ends;
  EXPECT_EQ(ends, 7U);  // the data, Chart.js and five of the page's own
}

}  // namespace
}  // namespace rlhf
