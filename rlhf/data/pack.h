// Packing: which pieces of which rows share one row of at most `max_length` tokens.
//
// The plan is made of lengths alone. Pieces never see each other, whatever the strategy: each is a
// segment of its own in the packed batch (core/segments.h). Rows in, order of packs and order of
// pieces are those of TRL 1.16's pack_dataset, with one difference: under `wrapped` TRL lets the
// rows of a pack see each other.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace rlhf {

enum class PackStrategy {
  bfd,  ///< best fit, longest first (arXiv 2404.10830); what exceeds max_length of a row is cut off
  bfd_split,  ///< the same, but a long row is split into several pieces
  wrapped,    ///< rows end to end, cut every max_length tokens
};

struct PackOptions {
  int64_t max_length = 1024;
  PackStrategy strategy = PackStrategy::bfd;
  /// Rows are packed in groups of so many, as TRL does (its map hands over 1000 at a time); 0 packs
  /// all together, which leaves less empty space in large sets.
  int64_t rows_per_group = 1000;
};

/// Tokens [begin, end) of a row.
struct PackPiece {
  int64_t row;
  int64_t begin;
  int64_t end;
  bool operator==(const PackPiece&) const = default;
};

/// The packs: pack p is pieces[offsets[p] .. offsets[p + 1]).
struct PackPlan {
  std::vector<PackPiece> pieces;
  std::vector<int64_t> offsets{0};
  int64_t rows_cut = 0;    ///< rows that lost tokens (bfd)
  int64_t tokens_cut = 0;  ///< those tokens

  int64_t packs() const { return static_cast<int64_t>(offsets.size()) - 1; }
  std::span<const PackPiece> pack(int64_t index) const;
  /// Tokens of a pack.
  int64_t length(int64_t index) const;
};

/// Packs rows of the given lengths; rows of length 0 are left out. `order` (empty: 0, 1, 2, ...)
/// says in which order rows are taken up; pieces name rows by their index into `lengths`.
PackPlan pack_rows(std::span<const int64_t> lengths, const PackOptions& options,
                   std::span<const int64_t> order = {});

}  // namespace rlhf
