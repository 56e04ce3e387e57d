// Judges outside this program: worker processes, HTTP services. They are asked item by item while
// other completions still grow, and their answers are collected when all have been drawn.
//
// A question and its answer are one JSON object each, the same for processes (one line each) and
// for HTTP (one body each):
//
//   question  {"id": 7, "name": "my_reward", "prompt": "…" or [messages], "completion": "…" or
//              [messages], "prompt_ids": […], "completion_ids": […], "step": 12,
//              "columns": {the data row without its prompt}}
//   answer    {"id": 7, "reward": 0.5}    null: it does not apply
//             {"id": 7, "error": "what went wrong"}
//
// The id that a judge sees may be the transport's own; JudgeAnswer has the one that was submitted.
//
// An item that cannot be judged costs its own reward, never the run: its answer says why.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "rlhf/core/json.h"

namespace rlhf {

/// What a judge said of one item.
struct JudgeAnswer {
  int64_t id = 0;                  ///< of the question
  std::optional<double> reward{};  ///< none: it does not apply, or there is a failure
  std::string failure{};   ///< "timed out after 30 s", "worker died (signal 9)"; empty: none
  bool timed_out = false;  ///< the failure is one of time
};

class ExternalJudge {
 public:
  virtual ~ExternalJudge() = default;

  /// Takes a question, whose `id` must be new since the last collect(). Does not wait for an answer.
  virtual void submit(Json question) = 0;

  /// Waits as collect() does, and asks `should_stop` (may be empty) meanwhile: false where that
  /// asks for an end. The questions stay asked.
  virtual bool settle(const std::function<bool()>& should_stop) = 0;

  /// How often settle() asks.
  static constexpr std::chrono::milliseconds kAsksEvery{50};

  /// Waits until every question has an answer or its time is over; all answers, in the order of
  /// submit(). Never throws for what a judge does.
  virtual std::vector<JudgeAnswer> collect() = 0;
};

}  // namespace rlhf
