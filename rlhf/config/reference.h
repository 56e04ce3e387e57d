// The reference page and the schema of every command's configuration, made from the declarations.
#pragma once

#include <string>

#include "rlhf/core/json.h"

namespace rlhf {

/// docs/configuration.md.
std::string configuration_reference_markdown();

/// JSON schema (draft 2020-12) of a configuration file of `rlhf sft`.
Json configuration_schema();

}  // namespace rlhf
