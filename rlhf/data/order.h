// The order in which rows are trained on, as a function of the step: a run's position in its data
// is one integer.
//
// Epoch e takes every row once. A step takes `rows_per_step` rows (micro-batch × accumulation ×
// ranks). As in transformers 5.23 an epoch ends where its rows end: without drop_last its last step
// is shorter, with drop_last the rows that fill no micro-batch are left out. So steps_per_epoch =
// ceil(ceil(rows / micro) / accumulation).
#pragma once

#include <cstdint>
#include <vector>

namespace rlhf {

enum class OrderStrategy {
  sequential,  ///< file order, every epoch
  random,      ///< a permutation of its own for every epoch
  /// Like lengths together: rows are permuted, cut into runs of min(50, rows / (4 · rows_per_step))
  /// steps, each run is sorted by falling length, and the longest row of all comes first, so that a
  /// shortage of memory shows at once.
  group_by_length,
};

struct OrderOptions {
  OrderStrategy strategy = OrderStrategy::random;
  int64_t rows_per_step = 8;
  int64_t micro_batch_rows =
      0;  ///< rows that drop_last counts in (all ranks together); 0 means rows_per_step
  bool drop_last = false;
  uint64_t seed = 42;
};

/// Rows of any step. Keeps the order of one epoch (8 bytes a row); not to be called from several
/// threads at once.
class RowOrder {
 public:
  /// `lengths` (tokens of each row) are needed by group_by_length only. Error when there are no
  /// rows, or none is left by drop_last.
  RowOrder(int64_t rows, const OrderOptions& options, std::vector<int64_t> lengths = {});

  int64_t steps_per_epoch() const;
  /// Rows that an epoch takes.
  int64_t rows_per_epoch() const { return used_; }
  int64_t epoch_of(int64_t step) const { return step / steps_per_epoch(); }
  /// Rows of global step `step`, 0 for the first; steps run on through the epochs.
  std::vector<int64_t> batch(int64_t step);
  /// Every row in the order of one epoch, those that drop_last leaves out at the end.
  const std::vector<int64_t>& epoch(int64_t index);

 private:
  std::vector<int64_t> permutation(int64_t epoch) const;
  void group_lengths(std::vector<int64_t>& order) const;

  int64_t rows_;
  OrderOptions options_;
  std::vector<int64_t> lengths_;
  int64_t used_;
  int64_t current_epoch_ = -1;
  std::vector<int64_t> current_;
};

}  // namespace rlhf
