#include "rlhf/rewards/judge_answer.h"

#include <cmath>

namespace rlhf {
namespace {

constexpr size_t kLongestFailure = 1000;  // bytes; it stands in completions.jsonl

}  // namespace

std::optional<JudgeAnswer> read_judge_answer(std::string_view text, int64_t id) {
  const Json answer = Json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (!answer.is_object()) return std::nullopt;
  const Json said_id = answer.value("id", Json());
  if (!said_id.is_number_integer() || said_id.get<int64_t>() != id) return std::nullopt;
  JudgeAnswer read{.id = id, .reward = {}, .failure = {}, .timed_out = false};
  const Json error = answer.value("error", Json());
  if (error.is_string()) {
    read.failure = error.get<std::string>().substr(0, kLongestFailure);
    if (read.failure.empty()) read.failure = "an error without a text";
    return read;
  }
  if (!error.is_null() || !answer.contains("reward")) return std::nullopt;
  const Json& reward = answer.at("reward");
  if (reward.is_null()) return read;
  if (!reward.is_number() || !std::isfinite(reward.get<double>())) return std::nullopt;
  read.reward = reward.get<double>();
  return read;
}

}  // namespace rlhf
