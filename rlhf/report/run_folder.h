// What a run leaves behind for people and tools: metrics.jsonl, trainer_state.json and TensorBoard
// events.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/core/json.h"

namespace rlhf {

class TensorBoardWriter;

/// Means over a logging window: each metric is added once a step (or a few times) and read once.
class MetricWindow {
 public:
  void add(const std::string& name, double value);
  bool empty() const { return sums_.empty(); }
  /// The mean of each metric in order of first appearance; the window starts anew.
  Json take();
  /// A window that is not yet logged is part of a checkpoint.
  Json state() const;
  void set_state(const Json& state);

 private:
  struct Sum {
    std::string name;
    double total = 0.0;
    int64_t count = 0;
  };
  std::vector<Sum> sums_;
};

class RunFolder {
 public:
  /// Creates `path`. `resumed_step` is the step a run goes on from, 0 for a new one: lines of later
  /// steps, written by a run that was killed after its last checkpoint, are dropped, so that the
  /// file ends as an undisturbed run's would. A new run starts with an empty metrics.jsonl.
  /// UserError when another process runs in it.
  RunFolder(fs::path path, int64_t resumed_step, bool tensorboard);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const fs::path& path() const { return path_; }

  /// Appends one line to metrics.jsonl (`step` first) and the numbers to the event file, as
  /// `train/…` and `eval/…`.
  void log(int64_t step, const Json& metrics);

 private:
  fs::path path_;
  int lock_ = -1;  // held on the folder itself until the run ends, however it ends
  std::unique_ptr<TensorBoardWriter> events_;
};

}  // namespace rlhf
