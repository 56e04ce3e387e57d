// Every training command with the options it declares, for what speaks of all of them: the reference
// page, the schema, and hints that name the command a key belongs to.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/core/options.h"

namespace rlhf {

/// One command: every option it reads, and those of its method alone.
struct CommandOptions {
  std::string name;
  std::shared_ptr<void> config = nullptr;  ///< what the options are bound to
  std::unique_ptr<OptionSet> all = std::make_unique<OptionSet>();
  std::unique_ptr<OptionSet> own = std::make_unique<OptionSet>();
};

/// In the order of the reference page.
std::vector<CommandOptions> training_commands();

/// The training commands that read a key, also by an older name: `dpo, kto`. All of them: `every
/// training command`. Empty where none does.
std::string commands_with(std::string_view key);

}  // namespace rlhf
