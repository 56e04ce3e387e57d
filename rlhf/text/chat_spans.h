// Which bytes of a rendered chat the model would have written; chat_template.h says what that
// means.
#pragma once

#include <utility>
#include <vector>

#include "rlhf/text/jinja_run.h"

namespace rlhf::jinja {

/// A conversation ready to be rendered any number of times, whole or its first messages.
struct Conversation {
  const Program* program = nullptr;
  std::vector<Value> messages;  ///< dicts
  Variables variables;          ///< all but messages and add_generation_prompt
  Clock clock;
};

using Spans = std::vector<std::pair<size_t, size_t>>;

/// Renders the first `count` messages.
Rendering render(const Conversation& chat, size_t count, bool add_generation_prompt);

/// The `{% generation %}` blocks. Faults where one stands inside a macro or a captured block: its
/// place is unknown.
Spans marked_spans(const Rendering& full);

/// The turns of role `assistant` in `full`, the rendering of all messages. Faults where one cannot
/// be determined.
Spans assistant_spans(const Conversation& chat, const Rendering& full, bool add_generation_prompt);

}  // namespace rlhf::jinja
