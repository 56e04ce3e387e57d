// What of a run's configuration reaches its plan, and the check against the machine.
#include "rlhf/train/memory_run.h"

#include <gtest/gtest.h>

#include <set>

#include "rlhf/train/machine_memory.h"
#include "tests/models/temporary_folder.h"
#include "tests/train/memory_parts.h"

namespace rlhf {
namespace {

using testing::part;
using testing::phase;
using testing::tiny_json;

using Arguments = std::vector<std::string>;

Arguments with(Arguments all, const Arguments& more) {
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

/// Folders with nothing in them but what a plan reads.
class PpoPlan : public ::testing::Test {
 protected:
  std::string model(const std::string& name) const {
    return folder_with(name, "config.json", tiny_json());
  }
  /// Rank 2 on queries and values, 2 · (16 + 12) numbers a layer; a reward model's, with a score head.
  std::string adapter(const std::string& name, const std::string& base) const {
    return folder_with(name, "adapter_config.json",
                       {{"peft_type", "LORA"},
                        {"task_type", "SEQ_CLS"},
                        {"r", 2},
                        {"target_modules", Json::array({"q_proj", "v_proj"})},
                        {"base_model_name_or_path", base}});
  }
  static RunMemory run(const std::string& policy, const std::string& reward,
                       const Arguments& more) {
    const Arguments arguments = {"--model_name_or_path",        policy, "--dataset_name", "d",
                                 "--reward_model_name_or_path", reward};
    return run_memory(read_ppo_config(with(arguments, more), nullptr));
  }
  static MemoryRequest planned(const std::string& policy, const std::string& reward,
                               const Arguments& more) {
    return memory_request(run(policy, reward, more));
  }

 private:
  std::string folder_with(const std::string& name, const char* file, const Json& content) const {
    const fs::path folder = temporary_.path() / name;
    fs::create_directories(folder);
    write_file(folder / file, content.dump());
    return folder.string();
  }
  testing::TemporaryFolder temporary_;
};

// tests/train/shared_base_test.cpp has the same of the models that a run loads.
TEST_F(PpoPlan, TheCriticStandsOnTheBaseOfARewardAdapter) {
  const std::string policy = model("policy");
  const std::string base = model("base");
  const std::string reward = adapter("reward", base);
  for (const char* dtype : {"float32", "bfloat16"}) {
    const auto request = planned(policy, reward, {"--use_peft", "true", "--dtype", dtype});
    EXPECT_FALSE(request.judge->shares_base) << dtype;
    EXPECT_TRUE(request.critic->shares_base) << dtype;
  }
  const MemoryPlan plan = plan_memory(planned(policy, reward, {"--use_peft", "true"}));
  // The base; its new score head of 8 numbers, the adapter's own one, and 112 of rank 2.
  EXPECT_EQ(part(phase(plan, "update"), "reward model"), (1992 + 8 + 8 + 112) * 4);
  EXPECT_EQ(part(phase(plan, "update"), "critic"), (8 + 8 + 112) * 4);
}

TEST_F(PpoPlan, TheCriticStandsOnFrozenWeightsOfItsFolderAndTypeAlone) {
  const std::string policy = model("policy");
  const std::string base = model("base");
  const std::string copy = model("copy");
  const std::string whole = model("whole");
  const std::string reward = adapter("reward", base);
  const auto shares = [&](const std::string& judge, const std::string& critic,
                          const Arguments& more) {
    return planned(policy, judge, with(more, {"--value_model_name_or_path", critic}))
        .critic->shares_base;
  };
  const Arguments lora = {"--use_peft", "true"};
  EXPECT_TRUE(shares(reward, base, lora));
  EXPECT_TRUE(shares(reward, policy, lora));
  EXPECT_TRUE(shares(reward, adapter("value", base), lora));
  EXPECT_FALSE(shares(reward, copy, lora));
  EXPECT_FALSE(shares(reward, adapter("other_value", copy), lora));
  EXPECT_FALSE(shares(reward, base, {})) << "a critic that is trained in full";
  EXPECT_TRUE(shares(whole, whole, lora));
  EXPECT_FALSE(shares(whole, whole, with(lora, {"--dtype", "bfloat16"})))
      << "a whole reward model is held in fp32";
}

TEST_F(PpoPlan, NobodyStandsOnARandomPolicy) {
  const std::string policy = model("policy");
  const std::string own = adapter("own", policy);
  const std::string other = adapter("other", model("base"));
  for (const bool random : {false, true}) {
    const Arguments lora = {"--use_peft", "true", "--from_scratch", random ? "true" : "false"};
    EXPECT_EQ(planned(policy, own, lora).judge->shares_base, !random);
    EXPECT_TRUE(planned(policy, other, lora).critic->shares_base) << "on the reward model";
    const Arguments on_policy = with(lora, {"--value_model_name_or_path", policy});
    EXPECT_EQ(planned(policy, other, on_policy).critic->shares_base, !random);
    EXPECT_EQ(planned(policy, own, on_policy).critic->shares_base, !random);
  }
}

TEST_F(PpoPlan, BothJudgesOfARunAreHeld) {
  const std::string policy = model("policy");
  const auto planned = [&](const Arguments& judges) {
    const Arguments arguments = {"--model_name_or_path", policy, "--dataset_name", "d"};
    return plan_memory(
        memory_request(run_memory(read_grpo_config(with(arguments, judges), nullptr))));
  };
  const std::string rewards = model("rewards");
  const std::string steps = model("steps");
  const Arguments one = {"--reward_model_name_or_path", rewards};
  const MemoryPlan both = planned(with(one, {"--process_reward_model_name_or_path", steps}));
  EXPECT_EQ(part(phase(both, "update"), "reward model"), 1992 * 4);
  EXPECT_EQ(part(phase(both, "update"), "process reward model"), 1992 * 4);
  const auto total = [](const MemoryPhase& all) {
    int64_t bytes = 0;
    for (const auto& each : all.parts) bytes += each.bytes;
    return bytes;
  };
  EXPECT_EQ(total(phase(both, "update")) - total(phase(planned(one), "update")), 1992 * 4);
}

// Four completions of 1,000 tokens behind prompts of 100: no limit of a drawn one is theirs.
TEST_F(PpoPlan, OfAReplayHasItsLengthsAndDrawsNothing) {
  const Arguments arguments = {"--model_name_or_path",
                               model("policy"),
                               "--replay_completions",
                               "recorded.jsonl",
                               "--per_device_train_batch_size",
                               "4",
                               "--num_generations",
                               "4"};
  RunMemory run = run_memory(read_grpo_config(arguments, nullptr));
  fit_rows(run, /*longest=*/1100, {});
  const MemoryRequest request = memory_request(run);
  EXPECT_FALSE(request.rollout.has_value());
  EXPECT_EQ(request.step_tokens, 4400);
  EXPECT_EQ(request.size.tokens, 1152);
  EXPECT_EQ(request.row_tokens, 1100);
}

// Eight completions of at most 53 tokens behind prompts of 512: more than a micro-batch.
TEST_F(PpoPlan, MicroBatchesOfGroupsAreLarger) {
  const std::string policy = model("policy");
  const auto tokens = [&](const char* generations) {
    return planned(policy, policy, {"--num_generations", generations}).size.tokens;
  };
  EXPECT_EQ(tokens("1"), 768);
  EXPECT_EQ(tokens("2"), 1152);
}

class MemoryCheck : public ::testing::Test {
 protected:
  RunMemory run() const {
    const std::string model = std::string(RLHF_FIXTURES) + "/train/model";
    return run_memory(
        read_sft_config(std::vector<std::string>{"--model_name_or_path", model, "--dataset_name",
                                                 "d", "--gradient_checkpointing", "false"},
                        nullptr));
  }
  int64_t planned() const { return plan_memory(memory_request(run())).bytes(); }
};

TEST_F(MemoryCheck, RefusesWhatDoesNotFitAndSaysWhatWould) {
  try {
    check_memory(run(), /*on_cpu=*/true, {.available = planned() / 2, .used_here = 0});
    FAIL() << "a run of twice the memory was expected to be refused";
  } catch (const UserError& error) {
    const std::string text = error.problems().front().text();
    EXPECT_NE(text.find("[memory] about "), std::string::npos) << text;
    EXPECT_NE(text.find("HINT: set "), std::string::npos) << text;
    EXPECT_NE(text.find("gradient_checkpointing: true (saves "), std::string::npos) << text;
  }
}

TEST_F(MemoryCheck, LetsThroughWhatFitsWithinItsError) {
  const int64_t within = planned() * 95 / 100;
  EXPECT_NO_THROW(check_memory(run(), /*on_cpu=*/true, {.available = within, .used_here = 0}));
  // What is in use already need not be free.
  EXPECT_NO_THROW(
      check_memory(run(), /*on_cpu=*/true, {.available = within / 2, .used_here = planned() / 2}));
  EXPECT_NO_THROW(check_memory(run(), /*on_cpu=*/false, {.available = 1, .used_here = 0}));
  EXPECT_NO_THROW(check_memory(run(), /*on_cpu=*/true, {.available = 0, .used_here = 0}));
}

// The program alone takes more than 100 MiB, what is trained is tiny: the rows are what does not fit.
TEST_F(MemoryCheck, LooksAtWhatIsLoadedBeforeAtRows) {
  constexpr int64_t kMebibyte = int64_t{1} << 20;
  RunMemory large = run();
  large.longest_row = 1'000'000;
  const MachineMemory machine{.available = 300 * kMebibyte, .used_here = 0};
  EXPECT_NO_THROW(check_least_memory(large, /*on_cpu=*/true, machine));
  try {
    check_memory(large, /*on_cpu=*/true, machine);
    FAIL() << "a row of a million tokens was expected to be refused";
  } catch (const UserError& error) {
    EXPECT_NE(error.problems().front().text().find("max_length: 500000 (saves "), std::string::npos)
        << error.what();
  }
  const MachineMemory small{.available = 20 * kMebibyte, .used_here = 0};
  EXPECT_THROW(check_least_memory(large, /*on_cpu=*/true, small), UserError);
  EXPECT_NO_THROW(check_least_memory(large, /*on_cpu=*/false, small));
  // Who loads the model says that there is none.
  large.common.model.model_name_or_path = "/nowhere";
  EXPECT_NO_THROW(check_least_memory(large, /*on_cpu=*/true, small));
}

// `auto` may find either type: refused is what fits in neither.
TEST_F(MemoryCheck, TakesTheSmallerTypeWhereItIsMeasuredLater) {
  RunMemory undecided = run();
  undecided.common.model.dtype = Dtype::automatic;
  undecided.longest_row = undecided.rows = 1;
  const auto planned_in = [&](Dtype dtype) {
    RunMemory decided = undecided;
    decided.common.model.dtype = dtype;
    return plan_memory(memory_request(decided)).bytes();
  };
  const int64_t smaller = std::min(planned_in(Dtype::float32), planned_in(Dtype::bfloat16));
  const auto within = [&](double share) {
    return MachineMemory{.available = static_cast<int64_t>(share * static_cast<double>(smaller)),
                         .used_here = 0};
  };
  EXPECT_NO_THROW(check_least_memory(undecided, /*on_cpu=*/true, within(0.95)));
  EXPECT_THROW(check_least_memory(undecided, /*on_cpu=*/true, within(0.8)), UserError);
}

// The fixture's weights are 4 bytes a number in its file. Without it the moments of the adapter, 8
// bytes a number, are the most.
TEST_F(MemoryCheck, ReadsNoFileOfARandomPolicy) {
  RunMemory random = run();
  const auto loaded = [&] { return phase(plan_memory(memory_request(random)), "load").bytes(); };
  random.common.lora.use_peft = true;
  random.common.lora.lora_r = 1;
  random.common.model.dtype = Dtype::bfloat16;  // not the file's: it would be converted
  const int64_t from_file = loaded();
  random.common.model.from_scratch = true;
  const ModelMemory policy = memory_request(random).policy.memory;
  EXPECT_EQ(from_file - loaded(), 4 * policy.parameters - 8 * policy.adapter);
}

// A prompt of 512 tokens with 256 new ones, of a group: more than half a micro-batch of 1,152.
TEST_F(PpoPlan, OffersShorterRowsOfBothKinds) {
  const std::string policy = model("policy");
  std::set<std::string> offered;
  for (const auto& saving : memory_savings(run(policy, policy, {"--max_completion_length", "256"})))
    offered.insert(saving.set);
  EXPECT_TRUE(offered.contains("max_prompt_length: 256"));
  EXPECT_TRUE(offered.contains("max_completion_length: 128"));
}

// The fixture's tensors are below 4096 numbers but for those of an adapter of r 128: 128 · 32.
TEST_F(MemoryCheck, Offers8BitsWhereTheySave) {
  const auto saving = [](const RunMemory& asked, const std::string& set) -> int64_t {
    for (const auto& one : memory_savings(asked)) {
      if (one.set == set) return one.bytes;
    }
    return 0;
  };
  EXPECT_EQ(saving(run(), "optim: adamw_8bit"), 0);
  RunMemory adapted = run();
  adapted.common.lora.use_peft = true;
  adapted.common.lora.lora_r = 128;
  EXPECT_GT(saving(adapted, "optim: adamw_8bit"), 0);
  EXPECT_GT(saving(adapted, "optim: adafactor"), saving(adapted, "optim: adamw_8bit"));
  adapted.common.training.optim = OptimizerChoice::adamw_8bit;
  EXPECT_EQ(saving(adapted, "optim: adamw_8bit"), 0);
  EXPECT_GT(saving(adapted, "optim: adafactor"), 0);
}

TEST(MachineMemory, TakesTheTighterOfMachineAndControlGroup) {
  const testing::TemporaryFolder temporary;
  const auto root = temporary.path();
  const auto write = [&](const std::string& name, const std::string& text) {
    fs::create_directories((root / name).parent_path());
    write_file(root / name, text);
  };
  write("proc/meminfo", "MemTotal:  9000 kB\nMemAvailable:    4000 kB\n");
  write("proc/self/status", "Name:\trlhf\nVmRSS:\t  700 kB\n");
  EXPECT_EQ(machine_memory(root).available, 4000 * 1024);
  EXPECT_EQ(machine_memory(root).used_here, 700 * 1024);
  // The group itself has no limit, the one around it leaves 1,000,000 − 600,000 + 50,000.
  write("proc/self/cgroup", "0::/outer/inner\n");
  write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  write("sys/fs/cgroup/outer/inner/memory.current", "500000\n");
  write("sys/fs/cgroup/outer/memory.max", "1000000\n");
  write("sys/fs/cgroup/outer/memory.current", "600000\n");
  write("sys/fs/cgroup/outer/memory.stat", "anon 1\ninactive_file 50000\n");
  EXPECT_EQ(machine_memory(root).available, 450000);
}

}  // namespace
}  // namespace rlhf
