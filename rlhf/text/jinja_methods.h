// What the files of methods and global functions share; find_method and find_global in jinja_run.h
// are the way in.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "rlhf/text/jinja_run.h"

namespace rlhf::jinja {

using MethodRow = std::pair<std::string_view, Method>;
std::span<const MethodRow> string_methods();

/// The string an argument must be; `what` names it.
const std::string& require_text(const Value& value, std::string_view what);
/// Faults on any argument.
void require_no_args(const Args& args, std::string_view method);

}  // namespace rlhf::jinja
