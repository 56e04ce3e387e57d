#include "rlhf/data/sft.h"

#include <gtest/gtest.h>

#include <array>

#include "rlhf/core/random.h"
#include "tests/data/data_setting.h"

namespace rlhf {
namespace {

struct Setting : DataSetting {
  EncodedDataset prepare(const DataSpec& spec, const EncodeOptions& options = {}) {
    return prepare_sft_data(spec, model.tokenizer, model.chat, fingerprint, options, cache(),
                            &statistics);
  }
  EncodedDataset prepare(const std::string& text, const EncodeOptions& options = {}) {
    return prepare(spec(text), options);
  }
};

std::vector<std::string> texts(const EncodedDataset& data, const Tokenizer& tokenizer) {
  std::vector<std::string> out;
  for (int64_t row = 0; row < data.rows(); ++row)
    out.push_back(tokenizer.decode(data.ids(row), /*skip_special=*/true));
  return out;
}

TEST(Sft, KeepsOrderAndCounts) {
  Setting s;
  const auto data = s.prepare(
      "{\"prompt\": \"the\", \"completion\": \" cat\"}\n\n{\"prompt\": \"a\", \"completion\": \" "
      "dog sat\"}\n");
  EXPECT_EQ(texts(data, s.model.tokenizer), (std::vector<std::string>{"the cat", "a dog sat"}));
  EXPECT_EQ(data.source(1), (s.folder.path() / "d.jsonl").string() + ":3");
  EXPECT_EQ(s.statistics.rows, 2);
  EXPECT_EQ(s.statistics.blank_lines, 1);
  EXPECT_EQ(s.statistics.tokens, data.length(0) + data.length(1));
  EXPECT_EQ(s.statistics.eos_rows, 2);
  EXPECT_EQ(s.statistics.longest, std::max(data.length(0), data.length(1)));
  EXPECT_HAS(s.statistics.table(), "EOS supervised in 2/2 rows");
  EXPECT_EQ(data.ids(0).size(), data.supervised(0).size());
  EXPECT_EQ(data.supervised(0)[0], 0);
}

TEST(Sft, ListsEveryBadRowWithAnExactCount) {
  Setting s;
  std::string text = "{\"text\": \"good\"}\n";
  for (int i = 0; i < 70; ++i) text += "{\"text\": 3}\n";
  const std::string error = user_error([&] { s.prepare(text); });
  EXPECT_HAS(error, "d.jsonl:2]");
  EXPECT_HAS(error, "d.jsonl:51]");
  EXPECT_EQ(error.find("d.jsonl:52]"), std::string::npos);
  EXPECT_HAS(error, "20 further problems of 70 are not shown");
  EXPECT_EQ(s.caches(), 0);

  const auto data = s.prepare(text, {.on_bad_row = OnBadRow::drop});
  EXPECT_EQ(data.rows(), 1);
  EXPECT_EQ(s.statistics.dropped.at("bad row").count, 70);
  EXPECT_EQ(s.statistics.dropped.at("bad row").examples.size(), Tally::kMostExamples);
  EXPECT_HAS(s.statistics.table(), "of 71 read");
}

TEST(Sft, ARowWithNothingToLearnIsAnErrorUnlessLengthDidIt) {
  Setting s;
  const std::string no_answer = R"({"messages": [{"role": "user", "content": "the"}]})";
  EXPECT_HAS(user_error([&] { s.prepare(no_answer + "\n", {.assistant_only_loss = true}); }),
             "d.jsonl:1]");
  EXPECT_HAS(user_error([&] { s.prepare(R"({"input_ids": [7]})"); }),
             "a token to learn was expected, got none among 1");
  EXPECT_HAS(user_error([&] { s.prepare(R"({"input_ids": [7, 8], "labels": [7, -100]})"); }),
             "a token to learn");

  const auto data = s.prepare(
      "{\"prompt\": \"the cat sat on the mat and the dog sat on the log\", \"completion\": \" "
      "a\"}\n"
      "{\"prompt\": \"the\", \"completion\": \" cat sat on the mat and the dog sat on the log\"}\n",
      {.max_length = 8});
  EXPECT_EQ(data.rows(), 1);
  EXPECT_EQ(data.length(0), 8);
  EXPECT_EQ(s.statistics.dropped.at("nothing to learn is left within max_length (8)").count, 1);
  EXPECT_EQ(s.statistics.cut.at("longer than max_length (8)").count, 1);
  EXPECT_EQ(s.statistics.eos_rows, 0);
  EXPECT_HAS(user_error([&] {
               s.prepare(R"({"prompt": "the cat sat on the", "completion": "a"})",
                         {.max_length = 2});
             }),
             "none is left");
}

TEST(Sft, RefusesOptionsThatTheRowsCannotServe) {
  Setting s;
  EXPECT_HAS(user_error([&] { s.prepare("{\"text\": \"a\"}\n", {.assistant_only_loss = true}); }),
             "[assistant_only_loss]");
  EXPECT_HAS(user_error([&] { s.prepare("{\"text\": \"a\"}\n", {.completion_only_loss = true}); }),
             "[completion_only_loss]");
  s.model.chat.reset();
  EXPECT_HAS(user_error([&] { s.prepare(R"({"messages": [{"role": "user", "content": "a"}]})"); }),
             "[chat_template]");
}

TEST(Sft, OneCacheForOneInputAndAnotherForAnyChange) {
  Setting s;
  const std::string text = "{\"text\": \"the cat\"}\n";
  s.prepare(text);
  EXPECT_EQ(s.caches(), 1);
  const Statistics first = s.statistics;
  s.prepare(text);
  EXPECT_EQ(s.caches(), 1);
  EXPECT_EQ(s.statistics, first);

  EXPECT_EQ(texts(s.prepare("{\"text\": \"the dog\"}\n"), s.model.tokenizer).front(), "the dog");
  EXPECT_EQ(s.caches(), 2);
  s.prepare(text, {.max_length = 100});
  EXPECT_EQ(s.caches(), 3);
  s.prepare(text, {.truncation_mode = TruncationMode::keep_end});
  EXPECT_EQ(s.caches(), 4);
  s.fingerprint = text_fingerprint(data_fixture("byte_level"), "another template");
  s.prepare(text);
  EXPECT_EQ(s.caches(), 5);
  s.fingerprint =
      text_fingerprint(data_fixture("byte_level_bos"), s.model.tokenizer.chat_template());
  s.prepare(text);
  EXPECT_EQ(s.caches(), 6);
}

TEST(Sft, EveryOptionIsPartOfTheKey) {
  const EncodeOptions base;
  std::vector<EncodeOptions> others(9, base);
  others[0].max_length.reset();
  others[1].truncation_mode = TruncationMode::keep_end;
  others[2].completion_only_loss = true;
  others[3].completion_only_loss = false;
  others[4].assistant_only_loss = true;
  others[5].eos_token = "x";
  others[6].stop_ids = {3};
  others[7].chat_template_kwargs["a"] = 1;
  others[8].on_bad_row = OnBadRow::drop;
  for (const auto& other : others) EXPECT_NE(other.key(), base.key());
}

TEST(Sft, MixturesAndSplits) {
  Setting s;
  std::string a;
  std::string b;
  for (int i = 0; i < 40; ++i) a += fmt::format("{{\"text\": \"a {}\"}}\n", i);
  for (int i = 0; i < 30; ++i)
    b += fmt::format("{{\"prompt\": \"b\", \"completion\": \" {}\"}}\n", i);
  DataSpec spec{.sources = {{.path = s.folder.write("a.jsonl", a), .fraction = 0.25},
                            {.path = s.folder.write("b.jsonl", b), .fraction = 0.75}}};
  const auto all = texts(s.prepare(spec), s.model.tokenizer);
  ASSERT_EQ(all.size(), 40U);  // 10 and 30
  EXPECT_EQ(all[9], "a 9");
  EXPECT_EQ(all[10], "b 0");
  spec.test_size = 0.2;
  spec.part = DataSpec::Part::test;
  auto both = texts(s.prepare(spec), s.model.tokenizer);
  EXPECT_EQ(both.size(), 8U);
  spec.part = DataSpec::Part::train;
  const auto train = texts(s.prepare(spec), s.model.tokenizer);
  both.insert(both.end(), train.begin(), train.end());
  std::sort(both.begin(), both.end());
  auto sorted = all;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(both, sorted);
}

TEST(Sft, APartOfNoRowsAsksForNothing) {
  Setting s;
  const std::string chat =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})"
      "\n";
  const DataSpec spec{.sources = {{.path = s.folder.write("chat.jsonl", chat)},
                                  {.path = s.folder.write("few.jsonl", chat), .weight = 0.02}}};
  EXPECT_EQ(RowSet(spec, std::array{RowType::language_modelling}).schemas(),
            (std::vector<Schema>{{RowType::language_modelling, RowForm::messages}}));
}

TEST(Sft, GzipAndPlainGiveTheSameRowsInSeveralShards) {
  Setting s;
  Random random(1, {1});
  std::string text;
  for (int i = 0; i < 40'000; ++i) {
    text += fmt::format("{{\"text\": \"row {} {}\"}}\n", i, std::string(random.below(60), 'a'));
  }
  const auto plain = s.prepare({.sources = {{.path = s.folder.write("a.jsonl", text)}}});
  const auto gzip = s.prepare({.sources = {{.path = s.folder.write_gzip("b.jsonl.gz", text)}}});
  ASSERT_EQ(plain.rows(), 40'000);
  ASSERT_EQ(gzip.rows(), 40'000);
  for (int64_t row = 0; row < plain.rows(); row += 501) {
    const auto a = plain.ids(row);
    const auto b = gzip.ids(row);
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
    EXPECT_TRUE(s.model.tokenizer.decode(a, /*skip_special=*/true)
                    .starts_with(fmt::format("row {} ", row)));
  }
}

TEST(Sft, PacksAndCountsWhatPacksCut) {
  Setting s;
  const auto data = s.prepare(
      "{\"prompt\": \"the cat sat on the mat and the dog sat on the log\", \"completion\": \" "
      "a\"}\n"
      "{\"prompt\": \"the\", \"completion\": \" cat sat on the mat and the dog sat on the log\"}\n"
      "{\"prompt\": \"the\", \"completion\": \" cat\"}\n",
      {.max_length = std::nullopt});
  ASSERT_EQ(data.rows(), 3);
  const PackPlan plan = data.pack({.max_length = 8}, &s.statistics);
  // Row 0 has its answer behind token 8 and is left out; row 1 fills a pack; row 2 has a pack of
  // its own.
  ASSERT_EQ(plan.packs(), 2);
  EXPECT_EQ(plan.pack(0)[0], (PackPiece{1, 0, 8}));
  EXPECT_EQ(plan.pack(1)[0], (PackPiece{2, 0, data.length(2)}));
  EXPECT_EQ(s.statistics.dropped.at("nothing to learn is left within a pack (8)").count, 1);
  EXPECT_EQ(s.statistics.cut.at("longer than a pack (8)").count, 1);
}

TEST(Statistics, SurviveJsonAndMerge) {
  Statistics a;
  a.rows = 3;
  a.longest = 9;
  a.cut["why"].add("f:1");
  Statistics b;
  b.rows = 2;
  b.longest = 4;
  for (int i = 0; i < 5; ++i) b.cut["why"].add(fmt::format("g:{}", i));
  EXPECT_EQ(Statistics::from_json(b.to_json()), b);
  a.merge(b);
  EXPECT_EQ(a.rows, 5);
  EXPECT_EQ(a.longest, 9);
  EXPECT_EQ(a.cut["why"].count, 6);
  EXPECT_EQ(a.cut["why"].examples, (std::vector<std::string>{"f:1", "g:0", "g:1"}));
}

}  // namespace
}  // namespace rlhf
