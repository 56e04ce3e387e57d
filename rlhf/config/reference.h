// The reference page and the schema of every command's configuration, made from the declarations, and
// the page for users of other programs, made from the tables of their keys.
#pragma once

#include <string>

#include "rlhf/core/json.h"

namespace rlhf {

/// docs/configuration.md: what every command shares once, then what each method adds.
std::string configuration_reference_markdown();

/// docs/coming-from.md: keys and flags of other programs, with the key of each here.
std::string coming_from_markdown();

/// JSON schema (draft 2020-12) of a configuration file: of any command, and of one as
/// `#/$defs/sft` and so on. Keys that commands share are defined once.
Json configuration_schema();

}  // namespace rlhf
