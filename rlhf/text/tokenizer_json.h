// The text of a folder's tokenizer.json, which may lie there as tokenizer.json.gz.
#pragma once

#include <string>

#include "rlhf/core/file.h"

namespace rlhf {

/// UserError where there is neither, or it is damaged.
std::string read_tokenizer_json(const fs::path& folder);

}  // namespace rlhf
