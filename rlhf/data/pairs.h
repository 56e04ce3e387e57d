// Preference pairs: a prompt with a chosen and a rejected answer, from files to an encoded set.
//
// Two ways of encoding, each that of the trainer in TRL 1.16 that reads such rows:
//
//   dpo     prompt and answers are encoded apart (encode.h): the prompt's ids are what generation
//           sees. Each member is cut to max_length by itself, whatever the other's length:
//             keep_start  the first max_length tokens of prompt + answer; a row whose prompt alone
//                         has that many is dropped
//             keep_end    the last max_length tokens of prompt + answer; an answer longer than that
//                         loses its beginning and its prompt, and nothing is dropped
//   reward  prompt + answer are encoded whole, with no generation prompt; the prompt is the common
//           token prefix of both (each answer keeps a token at least). Nothing is cut: a row with a
//           member longer than max_length is dropped, since a score needs the end of the answer.
//
// EOS ends plain text (unless it ends with it already); rendered conversations and given ids end as
// they do. No answer is ever empty: with an answer of no token, or of one token and no prompt
// before it (dpo), a row is bad. Rows with identical answers teach nothing: they are counted and
// named, and dropped only when asked for.
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

enum class PairMode { dpo, reward };

struct PairOptions {
  PairMode mode = PairMode::dpo;
  std::optional<int64_t> max_length = 1024;  ///< of prompt + answer; none: rows keep their length
  TruncationMode truncation_mode = TruncationMode::keep_start;  ///< of dpo
  bool drop_identical = false;  ///< drop rows whose answers are identical (within max_length)
  TextOptions text{};

  /// Everything that ids depend on.
  Json key() const;
};

/// Encoded pairs; cheap to copy, shared by threads.
class PairDataset : public EncodedRows {
 public:
  PairDataset(std::shared_ptr<const RaggedCache> cache, std::vector<std::string> files);

  /// The prompt of both answers. Empty where they share no token. With keep_end an answer may go
  /// with the end of it only: see chosen_prompt().
  std::span<const int32_t> prompt(int64_t row) const { return cache().int32s(prompt_, row); }
  std::span<const int32_t> chosen(int64_t row) const { return cache().int32s(chosen_, row); }
  std::span<const int32_t> rejected(int64_t row) const { return cache().int32s(rejected_, row); }

  /// What stands before each answer: an end of prompt(). The two differ in length only where
  /// keep_end cut the longer member's prompt further. Where it is empty, the answer's first token
  /// has nothing to be predicted from and is read only.
  std::span<const int32_t> chosen_prompt(int64_t row) const;
  std::span<const int32_t> rejected_prompt(int64_t row) const;

  /// Column `margin` of reward rows, by which the chosen reward should exceed the rejected one.
  std::optional<float> margin(int64_t row) const;

  /// Tokens of the prompt and the longer answer.
  int64_t length(int64_t row) const;
  /// Of every row; for group_by_length.
  std::vector<int64_t> lengths() const;

 private:
  std::span<const int32_t> prompt_end(int64_t row, size_t member) const;

  size_t prompt_;
  size_t chosen_;
  size_t rejected_;
  size_t skipped_;
  size_t margin_;
};

/// Reads, checks, encodes and caches preference rows (text, conversational or ids; prompt explicit
/// or implicit). `fingerprint` names tokenizer and template (text_fingerprint()). `statistics` may
/// be null; its tokens count a prompt once, its supervised tokens are the answers', its longest row
/// is length(), and EOS counts rows both of whose answers hold it. UserError lists every bad row,
/// unless bad rows are dropped, and everything wrong with the options for these rows.
PairDataset prepare_pairs(const DataSpec& spec, const Tokenizer& tokenizer,
                          const std::optional<ChatTemplate>& chat, std::string_view fingerprint,
                          const PairOptions& options, const fs::path& cache_folder,
                          Statistics* statistics);

}  // namespace rlhf
