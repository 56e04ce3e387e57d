// Prompts to sample from, with everything else that their rows hold; from files to an encoded set.
//
// A prompt is encoded as generation gets it (encode.h): the template with its generation prompt, or
// plain text behind the post-processor's prefix. The other columns of the row (a solution, a
// difficulty) are kept as they stand: rewards ask for them by name.
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

struct PromptOptions {
  std::optional<int64_t> max_length;  ///< longer prompts are dropped and counted, never cut
  TextOptions text{};

  /// Everything that ids depend on.
  Json key() const;
};

/// Encoded prompts; cheap to copy, shared by threads.
class PromptDataset : public EncodedRows {
 public:
  PromptDataset(std::shared_ptr<const RaggedCache> cache, std::vector<std::string> files);

  /// Never empty.
  std::span<const int32_t> prompt(int64_t row) const { return cache().int32s(prompt_, row); }
  /// The whole row as it was read, `prompt` included.
  Json columns(int64_t row) const;

  int64_t length(int64_t row) const { return cache().length(prompt_, row); }
  std::vector<int64_t> lengths() const;

 private:
  size_t prompt_;
  size_t columns_;
};

/// What is wrong where the row has none of `columns`, one of which a reward reads.
std::optional<Problem> missing_column(const Record& record,
                                      const std::vector<std::string>& columns);

/// Reads, checks, encodes and caches prompts. `fingerprint` names tokenizer and template
/// (text_fingerprint()). `required`: of each list a row must have one column at least.
/// `statistics` may be null. UserError lists every bad row, unless bad rows are dropped.
PromptDataset prepare_prompts(const DataSpec& spec, const Tokenizer& tokenizer,
                              const std::optional<ChatTemplate>& chat, std::string_view fingerprint,
                              const PromptOptions& options,
                              const std::vector<std::vector<std::string>>& required,
                              const fs::path& cache_folder, Statistics* statistics);

}  // namespace rlhf
