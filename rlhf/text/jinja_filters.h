// The filters on sequences and dicts; find_filter in jinja_syntax.h looks through all.
#pragma once

#include <span>

#include "rlhf/text/jinja_syntax.h"

namespace rlhf::jinja {

std::span<const Builtin> sequence_filters();

}  // namespace rlhf::jinja
