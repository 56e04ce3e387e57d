// Every configuration in docs/papers.md is read as its command would read it: the keys exist, the
// values fit, and nothing in it is without effect.
#include <gtest/gtest.h>

#include <sstream>

#include "tests/config/read.h"

namespace rlhf {
namespace {

struct Block {
  std::string command;  ///< what stands behind `# rlhf` in its first line; empty: nothing
  std::string text;
  int64_t line = 0;  ///< of docs/papers.md
};

std::vector<Block> blocks_of(const std::string& page) {
  std::vector<Block> blocks;
  std::istringstream lines(page);
  bool open = false;
  int64_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.starts_with("```")) {
      open = line == "```yaml";
      if (open) blocks.push_back({.command = {}, .text = {}, .line = number + 1});
      continue;
    }
    if (!open) continue;
    constexpr std::string_view kMark = "# rlhf ";
    Block& block = blocks.back();
    if (block.text.empty() && line.starts_with(kMark)) block.command = line.substr(kMark.size());
    block.text += line + '\n';
  }
  return blocks;
}

/// What the run says of the block: its problems, and notes on keys that do nothing. The model, the
/// data and, where `judged` and the block names none, a judge are added.
template <class Config>
Texts said_of(const std::string& file, const std::string& text, bool judged) {
  Texts args = {"--config", file, "--model_name_or_path", "model", "--dataset_name", "data.jsonl"};
  const bool has_judge = text.find("reward_funcs:") != std::string::npos ||
                         text.find("reward_model_name_or_path:") != std::string::npos;
  if (judged && !has_judge) args.insert(args.end(), {"--reward_funcs", "accuracy"});
  Texts notes;
  try {
    read_config<Config>(args, &notes);
  } catch (const UserError& error) {
    return texts_of(error);
  }
  return notes;
}

Texts said_of(const std::string& file, const Block& block) {
  const std::string& command = block.command;
  if (command == "sft") return said_of<SftConfig>(file, block.text, /*judged=*/false);
  if (command == "reward") return said_of<RewardConfig>(file, block.text, /*judged=*/false);
  if (command == "prm") return said_of<PrmConfig>(file, block.text, /*judged=*/false);
  if (command == "dpo") return said_of<DpoConfig>(file, block.text, /*judged=*/false);
  if (command == "kto") return said_of<KtoConfig>(file, block.text, /*judged=*/false);
  if (command == "grpo") return said_of<GrpoConfig>(file, block.text, /*judged=*/true);
  if (command == "rloo") return said_of<RlooConfig>(file, block.text, /*judged=*/true);
  if (command == "ppo") return said_of<PpoConfig>(file, block.text, /*judged=*/true);
  return {"its first line must be '# rlhf COMMAND'"};
}

class PapersTest : public ConfigFileTest {};

TEST_F(PapersTest, EveryBlockIsRead) {
  const auto blocks = blocks_of(read_file(RLHF_FIXTURES "/../../docs/papers.md"));
  EXPECT_GE(blocks.size(), 60U);
  for (const auto& block : blocks) {
    EXPECT_EQ(said_of(write(block.text), block), Texts{}) << "docs/papers.md:" << block.line;
  }
}

// What the test above would say of a block that is wrong.
TEST_F(PapersTest, AWrongBlockIsSeen) {
  const std::string page = "```yaml\n# rlhf grpo\nepsilon_hihg: 0.28\n```\n```yaml\nbeta: 1\n```\n";
  const auto blocks = blocks_of(page);
  ASSERT_EQ(blocks.size(), 2U);
  EXPECT_EQ(blocks[0].line, 2);
  EXPECT_EQ(said_of(write(blocks[0].text), blocks[0]).size(), 1U);
  EXPECT_EQ(said_of(write(blocks[1].text), blocks[1]).size(), 1U);
}

}  // namespace
}  // namespace rlhf
