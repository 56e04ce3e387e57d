// Data for supervised fine-tuning, from files to an encoded set that is mapped into memory.
//
// The set is encoded once and cached under a name made of the content of the data files, the
// tokenizer, the template and every option that ids or masks depend on (cache.h); a second start
// opens it. Bad rows are all found before anything is reported; rows that length alone spoils are
// cut or dropped, counted and named.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/data/encode.h"
#include "rlhf/data/encoded_rows.h"
#include "rlhf/data/pack.h"
#include "rlhf/data/prepare.h"
#include "rlhf/data/source.h"
#include "rlhf/data/statistics.h"

namespace rlhf {

/// Encoded rows; cheap to copy, shared by threads.
class EncodedDataset : public EncodedRows {
 public:
  EncodedDataset(std::shared_ptr<const RaggedCache> cache, std::vector<std::string> files);

  std::span<const int32_t> ids(int64_t row) const { return cache().int32s(ids_, row); }
  /// 1 for a token that is learned. The first of a row is never predicted, whatever its mask.
  std::span<const uint8_t> supervised(int64_t row) const { return cache().bytes(supervised_, row); }
  int64_t length(int64_t row) const { return cache().length(ids_, row); }
  /// Of every row; for group_by_length.
  std::vector<int64_t> lengths() const;

  /// Packs the rows. Rows without a learned token in what bfd would keep of them are left out and
  /// counted in `statistics` (may be null), as cut rows are.
  PackPlan pack(const PackOptions& options, Statistics* statistics,
                std::span<const int64_t> order = {}) const;

 private:
  size_t ids_;
  size_t supervised_;
};

/// Reads, checks, encodes and caches language-modelling and prompt-completion rows. `fingerprint`
/// names tokenizer and template (text_fingerprint()). `statistics` may be null. UserError lists
/// every bad row, unless bad rows are dropped, and everything wrong with the options for these
/// rows.
EncodedDataset prepare_sft_data(const DataSpec& spec, const Tokenizer& tokenizer,
                                const std::optional<ChatTemplate>& chat,
                                std::string_view fingerprint, const EncodeOptions& options,
                                const fs::path& cache_folder, Statistics* statistics);

}  // namespace rlhf
