// Rewards from shared libraries: the program's side of the interface in plugin.h.
#pragma once

#include <string>

#include "rlhf/core/json.h"
#include "rlhf/rewards/rules.h"

namespace rlhf {

/// The reward of the shared library at `path` (relative: to the working directory), which is told
/// `parameters`, an object. UserError where it cannot be loaded, lacks a function of plugin.h, was
/// built for another version of it, or refuses the parameters. The rule throws Error for a
/// completion that the library cannot judge; a copy of it keeps the library open, and it is for one
/// thread.
RewardRule open_plugin_rule(const std::string& name, const std::string& path,
                            const Json& parameters);

}  // namespace rlhf
