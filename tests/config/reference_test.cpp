#include "rlhf/config/reference.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/config/read.h"

namespace rlhf {
namespace {

/// Equal to the committed file, which RLHF_WRITE_GOLDENS=1 writes again.
void expect_golden(const std::string& text, const fs::path& path) {
  if (std::getenv("RLHF_WRITE_GOLDENS") != nullptr) {
    write_file(path, text);
    return;
  }
  ASSERT_TRUE(fs::exists(path)) << path << " is missing: run this test with RLHF_WRITE_GOLDENS=1";
  EXPECT_TRUE(read_file(path) == text)
      << path << " is stale: run this test with RLHF_WRITE_GOLDENS=1";
}

TEST(Reference, PageIsUpToDate) {
  expect_golden(configuration_reference_markdown(), RLHF_FIXTURES "/../../docs/configuration.md");
}

TEST(Reference, PageOfOtherProgramsIsUpToDate) {
  expect_golden(coming_from_markdown(), RLHF_FIXTURES "/../../docs/coming-from.md");
}

TEST(Reference, SchemaIsUpToDate) {
  expect_golden(configuration_schema().dump(1) + "\n",
                RLHF_FIXTURES "/../../docs/configuration.schema.json");
}

/// The page's part from a heading of the second level to the next.
std::string section(const std::string& page, const std::string& title) {
  const size_t begin = page.find("\n## " + title + "\n");
  if (begin == std::string::npos) return "";
  return page.substr(begin, page.find("\n## ", begin + 1) - begin);
}

bool has_row(const std::string& text, const std::string& key) {
  return text.find("| `" + key + "` |") != std::string::npos;
}

template <class Config>
void expect_documented(const std::string& command, const std::string& help) {
  const std::string page = configuration_reference_markdown();
  const Json properties = configuration_schema()["$defs"][command]["properties"];
  const std::string shared = section(page, "Every command");
  const std::string own = section(page, "rlhf " + command);
  const std::string others = section(page, "Keys of some commands");
  const BoundOptions<Config> bound;
  for (const auto& option : bound.set().options()) {
    EXPECT_NE(has_row(shared, option->name), has_row(own, option->name))
        << option->name << " stands once, for every command or for " << command;
    EXPECT_NE(help.find("  --" + option->name + " "), std::string::npos) << option->name;
    EXPECT_TRUE(properties.contains(option->name)) << option->name;
  }
  for (const auto& key : bound.set().inert()) {
    const bool elsewhere = key.status == InertKey::Status::elsewhere;
    EXPECT_TRUE(elsewhere ? has_row(others, key.name)
                          : has_row(shared, key.name) != has_row(own, key.name))
        << key.name;
    EXPECT_TRUE(properties.contains(key.name)) << key.name;
  }
}

TEST(Reference, EveryKeyStandsInPageSchemaAndHelp) {
  expect_documented<SftConfig>("sft", sft_help());
  expect_documented<DpoConfig>("dpo", dpo_help());
  expect_documented<KtoConfig>("kto", kto_help());
  expect_documented<RewardConfig>("reward", reward_help());
  expect_documented<PrmConfig>("prm", prm_help());
}

TEST(Reference, DefaultsOfOneCommandStandInItsSection) {
  const std::string page = configuration_reference_markdown();
  EXPECT_NE(section(page, "rlhf sft").find("`learning_rate: 2.0e-05`"), std::string::npos);
  EXPECT_NE(section(page, "rlhf kto").find("`train_sampling_strategy: sequential`"),
            std::string::npos);
  EXPECT_NE(
      section(page, "Every command").find("| `learning_rate` | number at least 0 | `5.0e-05`"),
      std::string::npos);
}

TEST(Reference, ReferencesOfTheSchemaResolve) {
  const Json schema = configuration_schema();
  size_t count = 0;
  for (const auto& command : schema["anyOf"]) {
    const auto path = command["$ref"].get<std::string>().substr(1);
    const Json properties = schema.at(Json::json_pointer(path))["properties"];
    for (const auto& [key, property] : properties.items()) {
      if (!property.contains("$ref")) continue;
      ++count;
      EXPECT_TRUE(schema.contains(
          Json::json_pointer(property["$ref"].template get<std::string>().substr(1))))
          << key;
    }
  }
  EXPECT_GT(count, 500U) << "what commands share is defined once";
}

}  // namespace
}  // namespace rlhf
