#include "rlhf/config/reference.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "rlhf/config/sft_config.h"
#include "rlhf/core/file.h"

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

TEST(Reference, SchemaIsUpToDate) {
  expect_golden(configuration_schema().dump(1) + "\n",
                RLHF_FIXTURES "/../../docs/configuration.schema.json");
}

TEST(Reference, EveryKeyStandsInPageSchemaAndHelp) {
  SftConfig config;
  OptionSet set;
  declare(set, config);
  const std::string page = configuration_reference_markdown();
  const std::string help = sft_help();
  const Json schema = configuration_schema();
  for (const auto& option : set.options()) {
    EXPECT_NE(page.find("| `" + option->name + "` |"), std::string::npos) << option->name;
    EXPECT_NE(help.find("  --" + option->name + " "), std::string::npos) << option->name;
    EXPECT_TRUE(schema["properties"].contains(option->name)) << option->name;
  }
  for (const auto& key : set.inert()) {
    EXPECT_NE(page.find("| `" + key.name + "` |"), std::string::npos) << key.name;
    EXPECT_TRUE(schema["properties"].contains(key.name)) << key.name;
  }
}

}  // namespace
}  // namespace rlhf
