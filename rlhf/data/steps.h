// Stepwise rows: a prompt, the steps of an answer, and whether each step is right; from files to an
// encoded set for process reward models.
//
// As in TRL 1.12's PRM trainer:
//
//   ids     BOS, if the tokenizer has one | prompt | step 1 | separator | step 2 | separator | ...
//   labels  -100                            -100     -100     -100 .. y1  -100     -100 .. y2
//
// The label of a step stands on the last token of its separator; every other position is not
// learned. No EOS is added: the last separator ends the row. Steps are encoded apart, so a step's
// ids depend on no other. (Where a tokenizer puts a space before every text, steps are encoded
// without it; TRL keeps it.) To given ids nothing is added: the label stands on a step's last
// token.
//
// Lengths are cut in this order: the prompt keeps its last max_prompt_length tokens (BOS counts),
// the steps keep their first max_completion_length, the row its first max_length. Rows with no
// label left are dropped.
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

struct StepsOptions {
  std::optional<int64_t> max_length = 1024;                     ///< of a row; none: uncut
  std::optional<int64_t> max_completion_length = std::nullopt;  ///< of all steps; none: uncut
  std::string step_separator = "\n";
  /// Learn the last step's label only. TRL evaluates on all steps all the same: unset it for
  /// evaluation rows.
  bool train_on_last_step_only = false;
  OnBadRow on_bad_row = OnBadRow::error;

  /// Everything that ids and labels depend on.
  Json key() const;
};

/// Encoded stepwise rows; cheap to copy, shared by threads.
class StepsDataset : public EncodedRows {
 public:
  StepsDataset(std::shared_ptr<const RaggedCache> cache, std::vector<std::string> files);

  static constexpr int32_t kNotLearned = -100;

  std::span<const int32_t> ids(int64_t row) const { return cache().int32s(ids_, row); }
  /// As many as ids: 0 or 1 where a step ends (wrong or right), kNotLearned elsewhere.
  std::span<const int32_t> labels(int64_t row) const { return cache().int32s(labels_, row); }

  int64_t length(int64_t row) const { return cache().length(ids_, row); }
  /// Of every row; for group_by_length.
  std::vector<int64_t> lengths() const;

 private:
  size_t ids_;
  size_t labels_;
};

/// Reads, checks, encodes and caches stepwise rows (text or ids). `fingerprint` names the tokenizer
/// (text_fingerprint()). `statistics` may be null; its supervised tokens are the labels. UserError
/// lists every bad row, unless bad rows are dropped, and everything wrong with the options.
StepsDataset prepare_steps(const DataSpec& spec, const Tokenizer& tokenizer,
                           std::string_view fingerprint, const StepsOptions& options,
                           const fs::path& cache_folder, Statistics* statistics);

}  // namespace rlhf
