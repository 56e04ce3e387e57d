// Reward workers: processes of one shell command that answer questions, a line of JSON each, on
// stdin and stdout (external_judge.h has both forms).
//
//   start     a worker says {"ready": true} once, before it is asked anything
//   question  written to a worker that has nothing else to do: one at a time, so that a time limit
//             for an item is clear and an answer can only be its own
//   answer    read strictly. Whatever is not an answer to the question costs that item its reward,
//             and the worker is replaced: what it may still say is never read
//
// A thread of the pool writes, reads and watches the clock, so that items are judged while other
// completions still grow. On the wire every question has an id that no other question of the pool
// ever had.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rlhf/rewards/external_judge.h"

namespace rlhf {

struct WorkerPoolOptions {
  std::string name{};         ///< of the reward, for messages
  std::string command{};      ///< for /bin/sh -c
  int64_t workers = 2;        ///< processes
  double timeout = 60.0;      ///< seconds, from handing a worker its question to its answer
  double start_limit = 60.0;  ///< seconds, from starting a worker to its being ready
};

class WorkerPool : public ExternalJudge {
 public:
  /// Restarts in a row, without an answer to any question, after which a batch is given up.
  static constexpr int kFruitlessRestarts = 5;

  /// Returns when all workers are ready. UserError with the command and the last lines of a worker's
  /// stderr where one is not.
  explicit WorkerPool(WorkerPoolOptions options);
  /// Closes the workers' stdin; a second later those that live on are killed with all that they
  /// started.
  ~WorkerPool() override;

  void submit(Json question) override;
  bool settle(const std::function<bool()>& should_stop) override;
  std::vector<JudgeAnswer> collect() override;

 private:
  class Desk;
  class Crew;

  std::unique_ptr<Desk> desk_;
  std::unique_ptr<Crew> crew_;
};

}  // namespace rlhf
