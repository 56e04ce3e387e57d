// TensorBoard event files: scalars over steps.
//
// Format: TFRecord frames (length, masked CRC-32C of the length, payload, masked CRC-32C of the
// payload) around `tensorflow.Event` protocol buffers; only the fields wall_time, step,
// file_version, session_log and simple_value are written.
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
  /// Creates `events.out.tfevents.<seconds>.<host>.<pid>` in `folder` and tells TensorBoard to
  /// forget what older files there said from `first_step` on, the first step that will be added.
  TensorBoardWriter(const fs::path& folder, int64_t first_step);

  /// One event with all scalars of a step.
  void add(int64_t step, const std::vector<std::pair<std::string, double>>& scalars);

 private:
  fs::path path_;
};

/// The records of an event file, byte for byte as TensorBoard's own writer makes them; `wall_time`
/// is in seconds. What a file begins with:
std::string tensorboard_version_record(double wall_time);
/// The start of a session: what older files said from `step` on is void.
std::string tensorboard_start_record(double wall_time, int64_t step);
/// Scalars of one step.
std::string tensorboard_scalars_record(double wall_time, int64_t step,
                                       const std::vector<std::pair<std::string, double>>& scalars);

/// CRC-32C (Castagnoli), as the frames use it.
uint32_t crc32c(std::string_view bytes);

}  // namespace rlhf
