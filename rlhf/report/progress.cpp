#include "rlhf/report/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace rlhf {
namespace {

constexpr int kBarColumns = 20;

std::string bar(double share) {
  const int full = static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * kBarColumns));
  std::string text = "▕";
  for (int i = 0; i < kBarColumns; ++i) text += i < full ? "█" : " ";
  return text + "▏";
}

/// Cuts after `columns` code points; every character used here is one column wide.
std::string cut(const std::string& text, int columns) {
  int seen = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0U) == 0x80U) continue;
    if (seen++ == columns) return text.substr(0, i);
  }
  return text;
}

}  // namespace

std::string grouped(int64_t number) {
  const std::string digits = fmt::format("{}", number);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    const bool after_digit = i > 0 && digits[i - 1] != '-';
    if (after_digit && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string clock_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::max(0.0, std::round(seconds)));
  const int64_t hours = whole / 3600;
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

std::string progress_line(const Progress& progress, int columns) {
  const double share = progress.total_steps > 0 ? static_cast<double>(progress.step) /
                                                      static_cast<double>(progress.total_steps)
                                                : 0.0;
  return cut(fmt::format("{} {}/{} {:3.0f}% · loss {:.4g} · {} tok/s · {} left", bar(share),
                         progress.step, progress.total_steps, 100.0 * share, progress.loss,
                         grouped(std::lround(progress.tokens_per_second)),
                         clock_text(progress.seconds_left)),
             columns);
}

}  // namespace rlhf
