// The plan against the memory that runs take: the program plans and trains a random model of 10.5
// million numbers, and the planned peak is compared with the operating system's figure.
#include "tests/cli/program.h"

namespace rlhf::testing {
namespace {

/// The plan's own error, and of so small a run the program's own size, which differs between
/// machines: its libraries alone were measured from 135 to 205 MiB.
constexpr double kShare = 0.10;
constexpr double kProgram = 70.0 * 1024 * 1024;

class Memory : public ProgramTest {
 protected:
  void SetUp() override {
    const fs::path fixture = fs::path(RLHF_FIXTURES) / "train/model";
    fs::create_directories(path("model"));
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
      fs::copy_file(fixture / name, fs::path(path("model")) / name);
    Json config = Json::parse(read_file(fixture / "config.json"));
    config.update(Json{{"vocab_size", 16384},
                       {"hidden_size", 256},
                       {"intermediate_size", 1024},
                       {"num_hidden_layers", 6},
                       {"num_attention_heads", 4},
                       {"num_key_value_heads", 2},
                       {"head_dim", 64},
                       {"max_position_embeddings", 1024}});
    write_file(path("model/config.json"), config.dump());
  }

  static Json ids(int64_t count, int64_t first) {
    Json list = Json::array();
    for (int64_t i = 0; i < count; ++i) list.push_back(3 + (first * 131 + i * 7) % 16000);
    return list;
  }

  std::string rows(const std::string& name, const std::function<Json(int64_t)>& row) {
    std::vector<Json> all;
    for (int64_t i = 0; i < 8; ++i) all.push_back(row(i));
    return write(name + ".jsonl", all);
  }

  /// Plans `method` and runs two steps of it; `own` are the plan's own keys.
  void compare(const std::string& method, const std::string& data, const std::string& more,
               const std::string& own) {
    const std::string shared = fmt::format(
        "--model_name_or_path {} --from_scratch true --dataset_name {} --output_dir {} --max_steps "
        "2 --logging_steps 1 --save_strategy no --gradient_checkpointing false {}",
        path("model"), data, path(method), more);
    const ProgramRun plan = run(fmt::format("plan {} {} --json true {}", method, shared, own));
    ASSERT_EQ(plan.code, 0);
    ASSERT_EQ(plan.lines.size(), 1U);
    const auto planned = plan.lines[0].at("peak_bytes").get<double>();
    const ProgramRun trained = run(fmt::format("{} {}", method, shared), /*messages=*/true);
    ASSERT_EQ(trained.code, 0) << trained.text;
    EXPECT_NE(trained.text.find("[memory] a peak of about"), std::string::npos) << trained.text;
    const auto lines = parse_lines(read_file(path(method + "/metrics.jsonl")));
    const auto measured = lines.back().at("peak_memory").get<double>();
    EXPECT_NEAR(planned, measured, kShare * measured + kProgram)
        << method << ": planned " << planned / 1e6 << " MB, measured " << measured / 1e6 << " MB";
  }
};

TEST_F(Memory, OfSftIsAsPlanned) {
  const auto data = rows("sft", [](int64_t i) { return Json{{"input_ids", ids(256, i)}}; });
  compare("sft", data, "--max_length 256", "");
}

TEST_F(Memory, ScoresAreOfNoTokenUnlessToldOtherwise) {
  const auto peak = [&](const std::string& more) {
    const ProgramRun plan =
        run(fmt::format("plan reward --model_name_or_path {} --dataset_name d --longest_row 8000 "
                        "--gradient_checkpointing false --json true {}",
                        path("model"), more));
    EXPECT_EQ(plan.code, 0);
    return plan.lines.at(0).at("peak_bytes").get<int64_t>();
  };
  EXPECT_EQ(peak(""), peak("--scored_share 0"));
  EXPECT_LT(peak(""), peak("--scored_share 1"));
}

TEST_F(Memory, OfDpoIsAsPlanned) {
  const auto data = rows("pairs", [](int64_t i) {
    return Json{{"prompt_ids", ids(16, i)},
                {"chosen_ids", ids(120, i + 100)},
                {"rejected_ids", ids(120, i + 200)}};
  });
  compare("dpo", data, "--max_length 256", "--longest_row 256");
  compare("reward", data, "--max_length 256", "--longest_row 256");
}

}  // namespace
}  // namespace rlhf::testing
