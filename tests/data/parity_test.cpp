// Against TRL 1.16.0: tools/make_data_goldens.py recorded what its SFTTrainer and pack_dataset make
// of the same rows.
#include <gtest/gtest.h>

#include "rlhf/data/sft.h"
#include "tests/data/model_folder.h"
#include "tests/data/temporary.h"

namespace rlhf {
namespace {

std::string read_gzip(const fs::path& path) {
  ByteStream stream(path);
  std::string text;
  std::vector<char> chunk(1 << 16);
  while (const size_t got = stream.read(chunk)) text.append(chunk.data(), got);
  return text;
}

EncodeOptions options_of(const Json& json) {
  EncodeOptions options;  // the defaults are TRL's: max_length 1024, keep_start
  for (const auto& [name, value] : json.items()) {
    if (name == "max_length") {
      options.max_length = value.get<int64_t>();
    } else if (name == "truncation_mode") {
      options.truncation_mode =
          value == "keep_end" ? TruncationMode::keep_end : TruncationMode::keep_start;
    } else if (name == "completion_only_loss") {
      options.completion_only_loss = value.get<bool>();
    } else if (name == "assistant_only_loss") {
      options.assistant_only_loss = value.get<bool>();
    } else {
      ADD_FAILURE() << "unknown option " << name;
    }
  }
  return options;
}

TEST(Parity, SftRowsAndLabels) {
  const Json cases = Json::parse(read_file(data_fixture("sft.json")));
  ASSERT_GT(cases.size(), 15U);
  for (const Json& golden : cases) {
    SCOPED_TRACE(golden.at("name").get<std::string>());
    const ModelFolder model(golden.at("tokenizer").get<std::string>());
    const TemporaryFolder folder;
    std::string text;
    for (const Json& row : golden.at("rows")) text += row.dump() + "\n";
    const EncodedDataset data = prepare_sft_data(
        {.sources = {{.path = folder.write("d.jsonl", text)}}}, model.tokenizer, model.chat, "test",
        options_of(golden.at("options")), folder.path() / "cache", nullptr);
    const Json& expected = golden.at("expected");
    ASSERT_EQ(data.rows(), static_cast<int64_t>(expected.size()));
    for (int64_t row = 0; row < data.rows(); ++row) {
      const auto ids = data.ids(row);
      const auto mask = data.supervised(row);
      std::vector<int32_t> labels;
      for (size_t i = 0; i < ids.size(); ++i) labels.push_back(mask[i] != 0 ? ids[i] : -100);
      const Json& wanted = expected[static_cast<size_t>(row)];
      EXPECT_EQ(std::vector<int32_t>(ids.begin(), ids.end()),
                wanted.at("ids").get<std::vector<int32_t>>());
      EXPECT_EQ(labels, wanted.at("labels").get<std::vector<int32_t>>());
    }
  }
}

TEST(Parity, Packing) {
  const std::map<std::string, PackStrategy> strategies = {{"bfd", PackStrategy::bfd},
                                                          {"bfd_split", PackStrategy::bfd_split},
                                                          {"wrapped", PackStrategy::wrapped}};
  const Json cases = Json::parse(read_gzip(data_fixture("packing.json.gz")));
  ASSERT_EQ(cases.size(), 9U);
  for (const Json& golden : cases) {
    SCOPED_TRACE(golden.at("strategy").get<std::string>());
    const PackPlan plan =
        pack_rows(golden.at("lengths").get<std::vector<int64_t>>(),
                  {.max_length = golden.at("seq_length").get<int64_t>(),
                   .strategy = strategies.at(golden.at("strategy").get<std::string>())});
    const Json& packs = golden.at("packs");
    ASSERT_EQ(plan.packs(), static_cast<int64_t>(packs.size()));
    for (int64_t p = 0; p < plan.packs(); ++p) {
      Json pieces = Json::array();
      for (const PackPiece& piece : plan.pack(p))
        pieces.push_back({piece.row, piece.begin, piece.end});
      ASSERT_EQ(pieces, packs[static_cast<size_t>(p)]) << "pack " << p;
    }
  }
}

}  // namespace
}  // namespace rlhf
