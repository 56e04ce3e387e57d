// Which token pads the rows of a reward model.
//
// transformers reads a reward model's score at the last id of a row that is not `pad_token_id`, so
// a pad that is also an end-of-text token is cut off with the padding and the score is that of the
// token before. The pad must be a token of its own that no row ends with, and tokenizer and
// config.json must name the same one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rlhf/core/json.h"
#include "rlhf/text/tokenizer.h"

namespace rlhf {

/// What the user's options say of it.
struct PadRequest {
  std::optional<std::string> pad_token = std::nullopt;  ///< the token to take
  std::vector<int32_t> stop_ids{};  ///< ids that end rows, beside the EOS of tokenizer and config
};

struct PadToken {
  int32_t id = 0;
  std::string text;       ///< as the vocabulary writes it: `pad_token` of tokenizer_config.json
  bool replaced = false;  ///< the tokenizer names another, or none
  std::string reason;     ///< why that one, for a log line
};

/// In this order: the token asked for; the tokenizer's pad; config.json's `pad_token_id`; and where
/// those are missing or end rows, a special token of the vocabulary that is neither BOS nor used by
/// the chat template: one named for padding, one reserved or unused, the unknown token, any other.
/// Ids beyond `vocab_size` of `model_config` (config.json) are passed over. UserError where the
/// token asked for is unknown or ends rows, and where there is none.
PadToken choose_pad_token(const Tokenizer& tokenizer, const Json& model_config,
                          const PadRequest& request = {});

}  // namespace rlhf
