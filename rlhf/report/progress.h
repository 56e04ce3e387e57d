// One line of progress for a terminal. Text only: the program decides where and whether it is
// shown.
#pragma once

#include <cstdint>
#include <string>

namespace rlhf {

struct Progress {
  int64_t step = 0;
  int64_t total_steps = 0;
  double loss = 0.0;
  double tokens_per_second = 0.0;
  double seconds_left = 0.0;
};

/// `▕██████    ▏ 120/300  40% · loss 1.234 · 1,520 tok/s · 2:05 left`, cut to `columns` columns.
std::string progress_line(const Progress& progress, int columns);

/// 75 → `1:15`, 3,725 → `1:02:05`.
std::string clock_text(double seconds);

/// 1520 → `1,520`.
std::string grouped(int64_t number);

}  // namespace rlhf
