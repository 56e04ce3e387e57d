// Which tokens end a completion.
#pragma once

#include <cstdint>
#include <vector>

#include "rlhf/models/folder.h"
#include "rlhf/text/tokenizer.h"

namespace rlhf {

/// `eos_token_id` of generation_config.json, else of config.json; and the tokenizer's EOS.
/// `tokenizer` may be null. UserError where generation_config.json is none.
std::vector<int32_t> find_stop_ids(const Model& model, const Tokenizer* tokenizer);

}  // namespace rlhf
