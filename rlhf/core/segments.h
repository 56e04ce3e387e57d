// Which tokens of a packed batch see which: plain data, no tensor.
#pragma once

#include <cstdint>
#include <vector>

namespace rlhf {

/// One run of consecutive tokens of a packed batch that see each other causally.
///
/// A segment may name a *prefix*: an earlier segment whose tokens it sees all of (not causally), as
/// an answer sees its prompt. Prefixes do not nest: a prefix segment has none itself. Siblings that
/// share a prefix lie side by side and right behind it. Positions of a segment with a prefix go on
/// from the prefix's length.
struct Segment {
  int64_t begin = 0;    ///< first token, an index into the packed batch
  int64_t length = 0;   ///< tokens; at least 1
  int64_t prefix = -1;  ///< index of the prefix segment in the same table, or -1
};

/// The segments of one packed batch, in order, covering its tokens without gap.
using SegmentTable = std::vector<Segment>;

}  // namespace rlhf
