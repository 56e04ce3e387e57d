#include "rlhf/data/source.h"

#include <gtest/gtest.h>

#include <array>
#include <numeric>
#include <set>

#include "tests/data/temporary.h"

namespace rlhf {
namespace {

constexpr std::array kText = {RowType::language_modelling};

std::string rows_text(int64_t count, const std::string& name) {
  std::string text;
  for (int64_t i = 0; i < count; ++i) text += fmt::format("{{\"text\": \"{}{}\"}}\n", name, i);
  return text;
}

std::vector<std::string> read_all(const RowSet& set) {
  std::vector<std::string> texts;
  RowSet::Cursor cursor(set);
  Record record;
  for (int64_t row = 0; row < set.rows(); ++row) {
    const auto problem = cursor.read(row, record);
    texts.push_back(problem ? problem->text() : record.text("text"));
  }
  return texts;
}

std::vector<std::string> names(const std::vector<fs::path>& files) {
  std::vector<std::string> out;
  for (const auto& file : files) out.push_back(file.filename().string());
  return out;
}

TEST(Source, FindsTheFilesOfASplit) {
  const TemporaryFolder folder;
  for (const char* name :
       {"named/train.jsonl", "named/test.jsonl.gz", "named/info.json", "shards/train-1.jsonl",
        "shards/train-0.jsonl", "plain/b.jsonl", "plain/a.jsonl", "plain/info.json",
        "inner/train/x.jsonl", "inner/test/y.jsonl", "only_test/test.jsonl"}) {
    folder.write(name, "{}\n");
  }
  const auto find = [&](const char* name, const char* split) {
    return names(resolve_files({.path = folder.path() / name, .split = split}));
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(find("named", "train"), Names{"train.jsonl"});
  EXPECT_EQ(find("named", "test"), Names{"test.jsonl.gz"});
  EXPECT_EQ(find("shards", "train"), (Names{"train-0.jsonl", "train-1.jsonl"}));
  EXPECT_EQ(find("plain", "train"), (Names{"a.jsonl", "b.jsonl"}));
  EXPECT_EQ(find("inner", "test"), Names{"y.jsonl"});
  EXPECT_EQ(find("plain/a.jsonl", "train"), Names{"a.jsonl"});
  EXPECT_EQ(names(resolve_files({.path = folder.path(), .name = "plain", .data_files = {"b*"}})),
            Names{"b.jsonl"});
  EXPECT_FALSE(has_split({.path = folder.path() / "plain", .split = "test"}));
  EXPECT_FALSE(has_split({.path = folder.path() / "only_test"}));
  EXPECT_HAS(user_error([&] { find("named", "validation"); }),
             "validation.jsonl, validation.jsonl.gz");
  EXPECT_HAS(user_error([&] { find("plain/a.jsonl", "test"); }),
             "a file holds the split `train` alone");
  EXPECT_HAS(user_error([&] { find("nowhere", "train"); }), "there is none");
}

TEST(Mixture, FollowsFractions) {
  const auto counts = [](std::vector<int64_t> rows, std::vector<std::optional<double>> fractions) {
    return mixture_counts(rows, fractions);
  };
  using Counts = std::vector<int64_t>;
  EXPECT_EQ(counts({10, 20}, {std::nullopt, std::nullopt}), (Counts{10, 20}));
  // Shares 1/4 and 3/4; the total is min(100 / 0.25, 60 / 0.75) = 80.
  EXPECT_EQ(counts({100, 60}, {1.0, 3.0}), (Counts{20, 60}));
  EXPECT_EQ(counts({100, 60}, {0.0, 0.5}), (Counts{0, 60}));
  // Shares 2/3 and 1/3: total 5 / (2/3) = 7.5, and halves go to even: round(2.5) = 2.
  EXPECT_EQ(counts({5, 100}, {2.0, 1.0}), (Counts{5, 2}));
  EXPECT_EQ(counts({5, 15}, {0.25, 0.75}), (Counts{5, 15}));
  EXPECT_EQ(counts({7, 5, 100}, {0.25, 0.25, 0.5}), (Counts{5, 5, 10}));
  EXPECT_EQ(counts({5, 3}, {0.5, 0.3}), (Counts{5, 3}));
  EXPECT_HAS(user_error([&] { counts({1, 2}, {0.5, std::nullopt}); }), "every set or for none");
}

TEST(RowSet, JoinsSourcesInOrder) {
  const TemporaryFolder folder;
  const DataSpec spec{
      .sources = {{.path = folder.write("a.jsonl", rows_text(4, "a")), .fraction = 0.5},
                  {.path = folder.write("b.jsonl", rows_text(2, "b")), .fraction = 0.5}}};
  EXPECT_EQ(read_all(RowSet(spec, kText)), (std::vector<std::string>{"a0", "a1", "b0", "b1"}));
}

TEST(RowSet, TakesAShareOfASourcesOwnRows) {
  const TemporaryFolder folder;
  // 0.5 of five rows is two of them; a share too small for one row leaves the source out.
  const DataSpec spec{
      .sources = {{.path = folder.write("a.jsonl", rows_text(5, "a")), .weight = 0.5},
                  {.path = folder.write("b.jsonl", rows_text(3, "b"))},
                  {.path = folder.write("c.jsonl", rows_text(9, "c")), .weight = 0.1}}};
  EXPECT_EQ(read_all(RowSet(spec, kText)),
            (std::vector<std::string>{"a0", "a1", "b0", "b1", "b2"}));
}

TEST(RowSet, SplitsWithoutOverlapInFileOrder) {
  const TemporaryFolder folder;
  DataSpec spec{.sources = {{.path = folder.write("a.jsonl", rows_text(1000, ""))}},
                .test_size = 0.1005};
  const auto part = [&](DataSpec::Part which) {
    spec.part = which;
    std::vector<int> rows;
    for (const auto& text : read_all(RowSet(spec, kText))) rows.push_back(std::stoi(text));
    return rows;
  };
  const auto test = part(DataSpec::Part::test);
  const auto train = part(DataSpec::Part::train);
  EXPECT_EQ(test.size(), 101U);  // rounded up
  EXPECT_EQ(train.size(), 899U);
  EXPECT_TRUE(std::is_sorted(test.begin(), test.end()));
  std::set<int> both(test.begin(), test.end());
  both.insert(train.begin(), train.end());
  EXPECT_EQ(both.size(), 1000U);
  EXPECT_EQ(part(DataSpec::Part::test), test);
  spec.seed = 43;
  EXPECT_NE(part(DataSpec::Part::test), test);
  spec.test_size = 7;
  EXPECT_EQ(part(DataSpec::Part::test).size(), 7U);
  spec.test_size = 1000;
  EXPECT_HAS(user_error([&] { part(DataSpec::Part::test); }), "a count below the 1000 rows");
}

TEST(RowSet, NamesBadRowsByFileAndLine) {
  const TemporaryFolder folder;
  const auto path = folder.write("a.jsonl", "{\"text\": \"a\"}\n\n{\"txt\": 1}\n{\"text\": \n");
  const RowSet set({.sources = {{.path = path}}}, kText);
  const auto rows = read_all(set);
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_HAS(rows[1], "a.jsonl:3] column `text` was expected.");
  EXPECT_HAS(rows[2], "a.jsonl:4] a JSON object was expected");
}

TEST(RowSet, ReportsEverySourceAtOnce) {
  const TemporaryFolder folder;
  const DataSpec spec{.sources = {{.path = folder.path() / "x"}, {.path = folder.path() / "y"}}};
  const std::string error = user_error([&] { RowSet(spec, kText); });
  EXPECT_HAS(error, "/x]");
  EXPECT_HAS(error, "/y]");
  const DataSpec empty{.sources = {{.path = folder.write("e.jsonl", "\n")}}};
  EXPECT_HAS(user_error([&] { RowSet(empty, kText); }), "one row was expected at least");
}

TEST(RowSet, PiecesCoverAllRows) {
  const TemporaryFolder folder;
  const DataSpec spec{.sources = {{.path = folder.write("a.jsonl", rows_text(1000, "some text"))},
                                  {.path = folder.write("b.jsonl", rows_text(10, "b"))}}};
  const RowSet set(spec, kText);
  const auto ends = set.pieces(/*bytes=*/4000, /*most=*/500);
  EXPECT_GT(ends.size(), 4U);
  EXPECT_EQ(ends.back(), 1010);
  EXPECT_TRUE(std::is_sorted(ends.begin(), ends.end()));
  EXPECT_EQ(set.pieces(/*bytes=*/1 << 30, /*most=*/300),
            (std::vector<int64_t>{300, 600, 900, 1010}));
}

}  // namespace
}  // namespace rlhf
