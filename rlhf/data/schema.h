// What a row is for: TRL's row types, found from the columns of a set's first row and checked on
// every row.
//
// | type                | columns (standard: text; conversational: lists of messages)    |
// |---------------------|----------------------------------------------------------------|
// | language_modelling  | `text` or `messages`                                            |
// | prompt_only         | `prompt`                                                        |
// | prompt_completion   | `prompt`, `completion`                                          |
// | preference          | `prompt`, `chosen`, `rejected`                                  |
// | implicit_preference | `chosen`, `rejected`, both beginning with the prompt            |
// | unpaired            | `prompt`, `completion`, `label`                                 |
// | stepwise            | `prompt`, `completions`, `labels`                               |
//
// Token ids may stand in place of any text: `input_ids` for `text`, `NAME_ids` for `NAME`; where a
// row has both, the ids are used. Columns that a type does not name pass through.
// docs/data-formats.md shows a row of each.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/core/error.h"
#include "rlhf/core/json.h"
#include "rlhf/data/records.h"

namespace rlhf {

enum class RowType {
  language_modelling,
  prompt_only,
  prompt_completion,
  preference,
  implicit_preference,
  unpaired,
  stepwise,
};

/// How the parts of a row are written.
enum class RowForm {
  text,      ///< strings
  messages,  ///< lists of {"role", "content", ...}
  ids,       ///< lists of token ids
};

struct Schema {
  RowType type = RowType::language_modelling;
  RowForm form = RowForm::text;
  bool operator==(const Schema&) const = default;
};

/// `prompt-completion`, as in the documentation.
std::string_view name_of(RowType type);
std::string_view name_of(RowForm form);

/// The schema of a row: the first of `wanted` whose columns it has. `preference` stands for both
/// preference types. UserError naming the columns found and those expected.
Schema detect_schema(const Record& record, std::span<const RowType> wanted);

/// What is wrong with one row of a set with this schema, if anything: a missing column, another
/// form, a message without a role, ids that are none, labels that do not fit.
std::optional<Problem> check_row(const Record& record, const Schema& schema);

/// How the rows of a file become rows of the types above.
struct RowReshape {
  /// Wanted name to the name in the file: {"prompt": "question", "completion": "answer"}. The
  /// column is renamed.
  std::map<std::string, std::string> rename{};
  /// Columns to keep (names in the file); empty keeps all.
  std::vector<std::string> select{};
};

/// Applies `reshape`, then rewrites what other tools write:
///   - `from`/`value` messages become `role`/`content`, `conversations` becomes `messages`
///     (ShareGPT: human, gpt, function_call, observation become user, assistant, a tool call, tool;
///     a `system` column the first message; with `chosen`/`rejected` messages beside it, it becomes
///     `prompt`);
///   - `instruction` (and `input`, `output`, `system`, `history`: Alpaca) becomes a conversational
///     `prompt` and `completion`;
///   - `tools` given as a string of JSON is parsed.
/// Nothing in the row is left half-rewritten: on a problem the row is not to be used.
std::optional<Problem> reshape_row(Record& record, const RowReshape& reshape);

/// The prompt that both members of a preference row begin with, as TRL's `extract_prompt`: the
/// common leading messages (each member keeps at least one), or the common leading text without a
/// space at its end.
struct SplitPreference {
  Json prompt;
  Json chosen;
  Json rejected;
};
SplitPreference split_implicit_prompt(const Json& chosen, const Json& rejected);

}  // namespace rlhf
