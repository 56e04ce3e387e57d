#include "rlhf/data/records.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "rlhf/core/random.h"
#include "tests/data/temporary.h"

namespace rlhf {
namespace {

std::vector<std::pair<int64_t, std::string>> all_rows(const fs::path& path) {
  std::vector<std::pair<int64_t, std::string>> rows;
  RowScanner scanner{ByteStream(path)};
  for (RawRow row; scanner.next(row);) rows.emplace_back(row.line, row.text);
  return rows;
}

using Rows = std::vector<std::pair<int64_t, std::string>>;

TEST(RowScanner, SkipsByteOrderMarkBlankLinesAndCarriageReturns) {
  const TemporaryFolder folder;
  const auto path =
      folder.write("a.jsonl", "\xEF\xBB\xBF{\"a\":1}\r\n\r\n   \n{\"a\":2}\n\n{\"a\":3}");
  EXPECT_EQ(all_rows(path), (Rows{{1, R"({"a":1})"}, {4, R"({"a":2})"}, {6, R"({"a":3})"}}));
  EXPECT_EQ(DataFile(path).blank_lines(), 3);
}

TEST(RowScanner, EmptyFileHasNoRows) {
  const TemporaryFolder folder;
  EXPECT_EQ(DataFile(folder.write("a.jsonl", "")).rows(), 0);
  EXPECT_EQ(DataFile(folder.write("b.jsonl", "\n \n")).rows(), 0);
  EXPECT_EQ(DataFile(folder.write("c.json", "[]")).rows(), 0);
}

TEST(RowScanner, ReadsAnArrayWithTheLineOfEachElement) {
  const TemporaryFolder folder;
  const auto path =
      folder.write("a.json", "\n[ {\"a\": \"x]}\\\"{\"},\n\n {\n \"b\": [1, {\"c\": 2}]},\n{}]\n");
  EXPECT_EQ(all_rows(path),
            (Rows{{2, R"({"a": "x]}\"{"})"}, {4, "{\n \"b\": [1, {\"c\": 2}]}"}, {6, "{}"}}));
}

TEST(RowScanner, NamesTheLineOfAMalformedArray) {
  const TemporaryFolder folder;
  const auto scan = [&](std::string_view text) {
    const auto path = folder.write("a.json", text);
    return user_error([&] { DataFile{path}; });
  };
  EXPECT_HAS(scan("[{}\n{}]"), "a.json:2] ',' or ']' was expected in the JSON array, got '{'");
  EXPECT_HAS(scan("[{},\n]"), "a.json:2] an object was expected in the JSON array, got ']'");
  EXPECT_HAS(scan("[{},\n{\"a\": 1"), "got the end of the file");
  EXPECT_HAS(scan("[{}]\n\n{}"), "a.json:3] the end of the file was expected");
  EXPECT_HAS(scan("[1]"), "an object was expected");
}

TEST(RowScanner, ReadsLinesLongerThanItsBuffer) {
  const TemporaryFolder folder;
  const std::string longest(1'000'000, 'x');
  const auto path = folder.write("a.jsonl", "{}\n\"" + longest + "\"\n{}\n");
  const Rows rows = all_rows(path);
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[1].second.size(), longest.size() + 2);
  EXPECT_EQ(rows[2], (std::pair<int64_t, std::string>{3, "{}"}));
}

TEST(ByteStream, ReadsGzipWithSeveralMembersAndRefusesDamage) {
  const TemporaryFolder folder;
  const std::string first = TemporaryFolder::gzip("{\"a\":1}\n{\"a\"");
  const std::string second = TemporaryFolder::gzip(":2}\n");
  EXPECT_EQ(all_rows(folder.write("a.jsonl.gz", first + second)),
            (Rows{{1, R"({"a":1})"}, {2, R"({"a":2})"}}));
  const auto cut = folder.write("b.jsonl.gz", first + second.substr(0, second.size() - 9));
  EXPECT_HAS(user_error([&] { DataFile{cut}; }), "ends too early");
  std::string damaged = first;
  damaged[first.size() - 6] = static_cast<char>(damaged[first.size() - 6] ^ 0x55);  // the checksum
  const auto broken = folder.write("c.jsonl.gz", damaged);
  EXPECT_HAS(user_error([&] { DataFile{broken}; }), "damaged");
}

// Rows of uneven length, some blank lines between them; 40 MB, so that a gzip file has restart
// points.
std::string many_rows(int64_t rows, std::vector<int64_t>& lines) {
  Random random(1, {7});
  std::string text;
  int64_t line = 0;
  for (int64_t row = 0; row < rows; ++row) {
    while (random.below(20) == 0) {
      text += "\n";
      ++line;
    }
    lines.push_back(++line);
    text +=
        fmt::format("{{\"row\":{},\"fill\":\"{}\"}}\n", row, std::string(random.below(8000), 'a'));
  }
  return text;
}

TEST(DataFile, ReadsAnyRowOfPlainAndGzipFiles) {
  const TemporaryFolder folder;
  constexpr int64_t kRows = 10'000;
  std::vector<int64_t> lines;
  const std::string text = many_rows(kRows, lines);
  for (const auto& path : {folder.write("a.jsonl", text), folder.write_gzip("b.jsonl.gz", text)}) {
    const auto file = std::make_shared<const DataFile>(path);
    ASSERT_EQ(file->rows(), kRows);
    DataFile::Cursor cursor(file);
    Random random(2, {9});
    for (int i = 0; i < 60; ++i) {
      const auto row = static_cast<int64_t>(random.below(kRows));
      for (int64_t next = row; next < std::min(kRows, row + 3); ++next) {
        const RawRow raw = cursor.read(next);
        ASSERT_TRUE(raw.text.starts_with(fmt::format("{{\"row\":{},", next)))
            << raw.text.substr(0, 40);
        ASSERT_EQ(raw.line, lines[static_cast<size_t>(next)]);
      }
    }
  }
}

TEST(DataFile, PositionsRiseWithRows) {
  const TemporaryFolder folder;
  std::vector<int64_t> lines;
  const std::string text = many_rows(500, lines);
  const DataFile file(folder.write("a.jsonl", text));
  uint64_t last = 0;
  for (int64_t row = 0; row <= file.rows(); ++row) {
    EXPECT_GE(file.position_near(row), last);
    last = file.position_near(row);
  }
  EXPECT_EQ(last, text.size() - 1);
}

TEST(ParseRecord, NamesWhatIsWrong) {
  Record record;
  const auto problem = [&](std::string_view text) {
    const auto found = parse_record({text, 17, 0}, "d/train.jsonl", record);
    return found ? found->text() : "";
  };
  EXPECT_EQ(problem(R"({"a": 1})"), "");
  EXPECT_EQ(record.where, "d/train.jsonl:17");
  EXPECT_HAS(problem("{\"a\": \"\xff\"}"),
             "[d/train.jsonl:17] UTF-8 was expected, got byte 0xff at byte 8 of the row.");
  EXPECT_HAS(problem(R"({"a": 1)"), "a JSON object was expected, got column 8");
  EXPECT_HAS(problem(R"({"a": NaN})"), "a JSON object was expected");
  EXPECT_HAS(problem("[1]"), "a JSON object was expected, got array");
  EXPECT_HAS(problem(R"({"a": "\ud800"})"), "surrogate");
}

}  // namespace
}  // namespace rlhf
