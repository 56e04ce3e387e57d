// JSON from outside. Parsing needs no stack, but copying and writing a value do, as much as it
// nests: so how deep a text nests is bounded before there is a value.
#pragma once

#include <string>
#include <string_view>

#include "rlhf/core/json.h"

namespace rlhf {

/// Deeper than any real row, configuration or template input, and far from the end of a stack.
inline constexpr int kMaxJsonDepth = 256;

/// How deep the brackets of `text` nest, those inside strings aside. `text` need not be JSON.
int json_depth(std::string_view text);

/// The value. UserError at `where` when `text` is no JSON or nests deeper than kMaxJsonDepth.
Json parse_json(std::string_view text, const std::string& where);

}  // namespace rlhf
