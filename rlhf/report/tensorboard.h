// TensorBoard event files: scalars over steps.
//
// Format: TFRecord frames (length, masked CRC-32C of the length, payload, masked CRC-32C of the
// payload) around `tensorflow.Event` protocol buffers; only the fields wall_time, step,
// file_version and simple_value are written.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rlhf/core/file.h"

namespace rlhf {

/// One event file in a folder. Every call to add() reaches the kernel before it returns.
class TensorBoardWriter {
 public:
  /// Creates `events.out.tfevents.<seconds>.<host>.<pid>` in `folder`. `first_step` > 0 (a resumed
  /// run) tells TensorBoard to forget what older files said from that step on.
  TensorBoardWriter(const fs::path& folder, int64_t first_step);

  /// One event with all scalars of a step.
  void add(int64_t step, const std::vector<std::pair<std::string, double>>& scalars);

 private:
  void write_record(std::string_view payload) const;
  fs::path path_;
};

/// CRC-32C (Castagnoli), as the frames use it.
uint32_t crc32c(std::string_view bytes);

}  // namespace rlhf
