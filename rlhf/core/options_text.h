// What users read about an OptionSet: help, reference page, schema, and the resolved configuration.
#pragma once

#include <string>

#include "rlhf/core/options.h"

namespace rlhf {

/// `--help`: `usage` first, then the options by group, wrapped at 100 columns, with range and
/// default of each.
std::string help_text(const OptionSet& set, const std::string& usage);

/// Markdown tables of the options by group (`heading` is the level of the group titles, such as
/// "###"), then of the keys that are accepted, refused and of other commands.
std::string options_markdown(const OptionSet& set, const std::string& heading);

/// JSON schema, draft 2020-12, of a configuration file.
Json options_schema(const OptionSet& set, const std::string& title);

/// The values as a YAML document that reads back to the same values.
std::string options_yaml(const OptionSet& set);

/// The values as an aligned table by group; a `*` marks what differs from the default, which stands
/// beside it.
std::string options_table(const OptionSet& set);

}  // namespace rlhf
