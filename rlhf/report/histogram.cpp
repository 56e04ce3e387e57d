#include "rlhf/report/histogram.h"

#include <algorithm>
#include <cmath>

namespace rlhf {
namespace {

constexpr double kLargestExact = 9007199254740992.0;  // 2^53: whole numbers above it may be rounded

/// The bin of a finite value.
size_t bin_of(const HistogramBins& bins, double value) {
  const auto above = std::upper_bound(bins.low.begin(), bins.low.end(), value);
  return above == bins.low.begin() ? 0 : static_cast<size_t>(above - bins.low.begin()) - 1;
}

HistogramBins whole_bins(double low, double high) {
  const double width = std::ceil((high - low + 1.0) / static_cast<double>(kWideBins));
  HistogramBins bins;
  for (double start = low; start <= high; start += width) {
    bins.low.push_back(start);
    bins.high.push_back(start + width - 1.0);
  }
  return bins;
}

HistogramBins even_bins(double low, double high) {
  HistogramBins bins;
  for (size_t i = 0; i < kWideBins; ++i) {
    // Each half by itself: the difference of two finite numbers need not be one.
    const double part = static_cast<double>(i) / static_cast<double>(kWideBins);
    bins.low.push_back(low * (1.0 - part) + high * part);
  }
  bins.high.assign(bins.low.begin() + 1, bins.low.end());
  bins.high.push_back(high);
  return bins;
}

/// Sets the ranges of steps.
void set_ranges(const std::vector<RunRecord>& runs, Histograms& histograms) {
  std::vector<int64_t> all;
  for (const auto& run : runs)
    all.insert(all.end(), run.completions.steps.begin(), run.completions.steps.end());
  if (all.empty()) return;
  const auto [first, last] = std::minmax_element(all.begin(), all.end());
  const int64_t span = *last - *first + 1;
  const int64_t ranges = std::min<int64_t>(kMaxStepRanges, span);
  histograms.first_step = *first;
  for (int64_t i = 1; i <= ranges; ++i)
    histograms.last_steps.push_back(*first + i * span / ranges - 1);
}

const CompletionQuantity* quantity_of(const CompletionLog& log, const std::string& name) {
  for (const auto& quantity : log.quantities) {
    if (quantity.name == name) return &quantity;
  }
  return nullptr;
}

std::vector<std::string> names_of(const std::vector<RunRecord>& runs) {
  std::vector<std::string> names;
  for (const auto& run : runs) {
    for (const auto& quantity : run.completions.quantities) {
      if (std::find(names.begin(), names.end(), quantity.name) == names.end())
        names.push_back(quantity.name);
    }
  }
  return names;
}

RunHistogram histogram_of(const CompletionLog& log, const CompletionQuantity& quantity,
                          const HistogramBins& bins, const std::vector<int64_t>& last_steps) {
  RunHistogram histogram;
  histogram.counts.assign(last_steps.size(), std::vector<int64_t>(bins.low.size(), 0));
  for (size_t i = 0; i < log.steps.size(); ++i) {
    if (!std::isfinite(quantity.values[i])) continue;
    const auto range = std::lower_bound(last_steps.begin(), last_steps.end(), log.steps[i]);
    ++histogram.counts[static_cast<size_t>(range - last_steps.begin())]
                      [bin_of(bins, quantity.values[i])];
  }
  return histogram;
}

}  // namespace

HistogramBins bins_of(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  if (values.size() <= kMaxDistinctValues) return {.low = values, .high = values};
  const bool whole = std::all_of(values.begin(), values.end(), [](double value) {
    return std::trunc(value) == value && std::abs(value) < kLargestExact;
  });
  return whole ? whole_bins(values.front(), values.back())
               : even_bins(values.front(), values.back());
}

Histograms make_histograms(const std::vector<RunRecord>& runs) {
  Histograms histograms;
  set_ranges(runs, histograms);
  for (const auto& name : names_of(runs)) {
    std::vector<double> values;
    for (const auto& run : runs) {
      if (const auto* quantity = quantity_of(run.completions, name))
        values.insert(values.end(), quantity->values.begin(), quantity->values.end());
    }
    QuantityHistogram histogram{.name = name, .bins = bins_of(std::move(values)), .runs = {}};
    if (histogram.bins.low.empty()) continue;
    for (size_t r = 0; r < runs.size(); ++r) {
      const auto* quantity = quantity_of(runs[r].completions, name);
      if (quantity == nullptr) continue;
      histogram.runs.push_back(
          histogram_of(runs[r].completions, *quantity, histogram.bins, histograms.last_steps));
      histogram.runs.back().run = r;
    }
    histograms.quantities.push_back(std::move(histogram));
  }
  return histograms;
}

}  // namespace rlhf
