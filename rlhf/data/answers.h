// Unpaired preferences: a prompt, an answer, and whether the answer is desirable; from files to an
// encoded set.
//
// Prompt and answer are encoded apart (encode.h). As in TRL 1.16's KTO trainer, the first
// max_length tokens of prompt + answer are kept, and a row whose prompt alone has that many is
// dropped. EOS ends plain text (unless it ends with it already).
//
// Pairs become unpaired rows when asked for, in TRL's order: of each 1000 rows of the data first
// the chosen answers, then the rejected ones. Their members are independent of each other: either
// may be dropped alone.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/data/encode.h"
#include "rlhf/data/encoded_rows.h"
#include "rlhf/data/source.h"
#include "rlhf/data/statistics.h"

namespace rlhf {

struct AnswerOptions {
  std::optional<int64_t> max_length = 1024;  ///< of prompt + answer; none: rows keep their length
  bool unpair = false;                       ///< take preference pairs too, each as two rows
  TextOptions text{};

  /// Everything that ids depend on.
  Json key() const;
};

/// Encoded answers; cheap to copy, shared by threads.
class AnswerDataset : public EncodedRows {
 public:
  AnswerDataset(std::shared_ptr<const RaggedCache> cache, std::vector<std::string> files);

  /// Empty only where the data gives no prompt: then the answer's first token has nothing to be
  /// predicted from and is read only.
  std::span<const int32_t> prompt(int64_t row) const { return cache().int32s(prompt_, row); }
  /// Within max_length. Never empty.
  std::span<const int32_t> completion(int64_t row) const {
    return whole_completion(row).first(static_cast<size_t>(cache().int32s(kept_, row).front()));
  }
  /// Before it was cut: behind another prompt more of it may fit.
  std::span<const int32_t> whole_completion(int64_t row) const {
    return cache().int32s(completion_, row);
  }
  bool desirable(int64_t row) const { return cache().bytes(label_, row).front() != 0; }
  /// Desirable rows.
  int64_t desirable_rows() const;

  /// Tokens of prompt and completion.
  int64_t length(int64_t row) const;
  /// Of every row; for group_by_length.
  std::vector<int64_t> lengths() const;

 private:
  size_t prompt_;
  size_t completion_;
  size_t kept_;
  size_t label_;
};

/// Reads, checks, encodes and caches unpaired preference rows (and pairs, where the options say
/// so). `fingerprint` names tokenizer and template (text_fingerprint()). `statistics` may be null;
/// its notices count the rows of each class, and say so where a class has none. UserError lists
/// every bad row, unless bad rows are dropped, and everything wrong with the options for these
/// rows.
AnswerDataset prepare_answers(const DataSpec& spec, const Tokenizer& tokenizer,
                              const std::optional<ChatTemplate>& chat, std::string_view fingerprint,
                              const AnswerOptions& options, const fs::path& cache_folder,
                              Statistics* statistics);

}  // namespace rlhf
