// Histograms over ranges of steps, with the same bins for all runs, so that a page can add up any
// stretch of steps without holding every number.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rlhf/report/run_record.h"

namespace rlhf {

/// Bins of one quantity. Few distinct values have a bin each (low = high = the value). Else bins of
/// one width cover the range: of whole numbers from low to high, both included, so that each bin
/// holds equally many; of others [low, high), the last one [low, high].
struct HistogramBins {
  std::vector<double> low;
  std::vector<double> high;
};

struct RunHistogram {
  size_t run = 0;                            ///< index
  std::vector<std::vector<int64_t>> counts;  ///< [step range][bin]
};

struct QuantityHistogram {
  std::string name;
  HistogramBins bins;
  std::vector<RunHistogram> runs;  ///< those that have the quantity
};

struct Histograms {
  int64_t first_step = 0;
  std::vector<int64_t> last_steps;  ///< range i holds steps above last_steps[i-1], up to this one
  std::vector<QuantityHistogram> quantities;
};

inline constexpr size_t kMaxStepRanges = 40;
inline constexpr size_t kMaxDistinctValues = 16;
inline constexpr size_t kWideBins = 32;

/// The bins for `values`; those that are not finite are left out.
HistogramBins bins_of(std::vector<double> values);

/// Every quantity of the runs' completions.
Histograms make_histograms(const std::vector<RunRecord>& runs);

}  // namespace rlhf
