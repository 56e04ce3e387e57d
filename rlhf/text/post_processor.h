// Post-processors of tokenizer.json: special tokens around the ids of one text.
#pragma once

#include <cstdint>
#include <vector>

#include "rlhf/text/json_fields.h"

namespace rlhf {

/// Known: TemplateProcessing (its `single` form), BertProcessing, RobertaProcessing, ByteLevel
/// (moves offsets only, so nothing to do), Sequence.
class PostProcessor {
 public:
  PostProcessor() = default;
  /// Adds what is wrong to the fields' problems.
  explicit PostProcessor(const JsonFields& part) { read(part, 0); }

  /// Puts special tokens around (and, where a template says so, between copies of) `ids`.
  void apply(std::vector<int32_t>& ids) const;

 private:
  struct Item {
    bool text;  ///< the ids so far; else `ids`
    std::vector<int32_t> ids;
  };
  void read(const JsonFields& part, int depth);
  void read_template(const JsonFields& part);
  void read_pair(const JsonFields& part);

  std::vector<std::vector<Item>> steps_;
};

}  // namespace rlhf
