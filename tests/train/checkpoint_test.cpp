#include "rlhf/train/checkpoint.h"

#include <gtest/gtest.h>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

class Checkpoints : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / "rlhf_checkpoint" /
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    model_.emplace(load_model(fs::path(RLHF_FIXTURES) / "train/model",
                              {.dtype = at::kFloat, .trainable = true}));
    optimizer_.emplace(OptimizerOptions{}, model_->decoder.tensors());
  }

  fs::path save(int64_t step) {
    const fs::path path = folder_ / fmt::format("checkpoint-{}", step);
    save_checkpoint(path, {.model = &*model_,
                           .save = {},
                           .optimizer = &*optimizer_,
                           .state = {{"step", step}},
                           .trainer_state = {{"global_step", step}},
                           .files = {{"config.yaml", "seed: 1\n"}}});
    return path;
  }

  static void change_byte(const fs::path& path, size_t at) {
    std::string bytes = read_file(path);
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    write_file(path, bytes);
  }

  fs::path folder_;
  std::optional<Model> model_;
  std::optional<Optimizer> optimizer_;
};

TEST_F(Checkpoints, ComeBackAsTheyWere) {
  const fs::path path = save(3);
  const auto loaded = load_checkpoint_state(path);
  const Model model = load_model(path, {.dtype = at::kFloat, .trainable = true});
  restore_exact_weights(loaded, model);
  EXPECT_EQ(loaded.state.at("step"), 3);
  const auto& before = model_->decoder.tensors();
  const auto& after = model.decoder.tensors();
  ASSERT_EQ(before.size(), after.size());
  for (size_t i = 0; i < before.size(); ++i)
    EXPECT_TRUE(before[i].tensor.equal(after[i].tensor)) << before[i].name;
  EXPECT_EQ(loaded.optimizer.size(), optimizer_->state().size());
}

TEST_F(Checkpoints, DamageIsNamedAndPassedOver) {
  save(1);
  const fs::path second = save(2);
  change_byte(second / "optimizer.safetensors", 5000);
  try {
    load_checkpoint_state(second);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("optimizer.safetensors"), std::string::npos);
  }
  EXPECT_EQ(latest_checkpoint(folder_), folder_ / "checkpoint-1");
  fs::remove(folder_ / "checkpoint-1" / "model.safetensors");
  EXPECT_FALSE(latest_checkpoint(folder_).has_value());
}

TEST_F(Checkpoints, AnUnfinishedOneIsNotACheckpoint) {
  save(1);
  fs::create_directories(folder_ / "checkpoint-2.unfinished");
  write_file(folder_ / "checkpoint-2.unfinished" / "manifest.json", "{}");
  EXPECT_EQ(checkpoints_of(folder_).size(), 1U);
  EXPECT_EQ(latest_checkpoint(folder_), folder_ / "checkpoint-1");
}

TEST_F(Checkpoints, RotationKeepsTheNewestAndTheBest) {
  for (const int64_t step : {1, 2, 3, 10}) save(step);
  rotate_checkpoints(folder_, 2, folder_ / "checkpoint-1");
  const auto left = checkpoints_of(folder_);
  ASSERT_EQ(left.size(), 2U);
  EXPECT_EQ(left[0].first, 1);
  EXPECT_EQ(left[1].first, 10);  // ten is newer than three, whatever the letters say
  rotate_checkpoints(folder_, 1, std::nullopt);
  EXPECT_EQ(checkpoints_of(folder_).size(), 1U);
  EXPECT_EQ(checkpoints_of(folder_)[0].first, 10);
}

TEST_F(Checkpoints, ANewerFormatIsRefused) {
  const fs::path path = save(1);
  Json manifest = Json::parse(read_file(path / "manifest.json"));
  manifest["format"] = 99;
  write_file(path / "manifest.json", manifest.dump());
  EXPECT_THROW(load_checkpoint_state(path), UserError);
}

}  // namespace
}  // namespace rlhf
