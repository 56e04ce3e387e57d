#include "rlhf/train/replay.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>

#include "rlhf/core/error.h"
#include "rlhf/data/records.h"

namespace rlhf {
namespace {

constexpr const char* kSingle = "reward";

std::vector<int32_t> ids_of(const Record& record, std::string_view column) {
  const Json& list = record.at(column);
  const bool fits =
      list.is_array() && !list.empty() && std::all_of(list.begin(), list.end(), [](const Json& id) {
        return id.is_number_integer() && id.get<int64_t>() >= 0 &&
               id.get<int64_t>() <= std::numeric_limits<int32_t>::max();
      });
  if (!fits) {
    throw UserError(record.where,
                    fmt::format("`{}` was expected to be a list of one token id or more.", column));
  }
  return list.get<std::vector<int32_t>>();
}

/// The line's rewards by name.
Json rewards_of(const Record& record) {
  Json rewards = Json::object();
  if (record.row.contains("rewards")) {
    rewards = record.at("rewards");
  } else if (record.row.contains(kSingle)) {
    rewards[kSingle] = record.at(kSingle);
  }
  const bool fits = rewards.is_object() && !rewards.empty() &&
                    std::all_of(rewards.begin(), rewards.end(), [](const Json& value) {
                      return value.is_number() || value.is_null();
                    });
  if (!fits) {
    throw UserError(record.where,
                    "`rewards` (a map from names to numbers or null) or `reward` was "
                    "expected.");
  }
  return rewards;
}

/// The line's judged steps; none where it has no column of them.
std::vector<StepReward> steps_of(const Record& record, int64_t tokens) {
  if (!record.row.contains("steps")) return {};
  const Json& steps = record.at("steps");
  const auto list = [&](const char* name) {
    return steps.is_object() && steps.contains(name) ? steps.at(name) : Json();
  };
  const Json ends = list("last_tokens");
  const Json rewards = list("rewards");
  bool fits =
      ends.is_array() && rewards.is_array() && !ends.empty() && ends.size() == rewards.size();
  std::vector<StepReward> found;
  int64_t before = -1;
  for (size_t i = 0; fits && i < ends.size(); ++i) {
    const int64_t end = ends[i].is_number_integer() ? ends[i].get<int64_t>() : -1;
    fits = end > before && end < tokens && (rewards[i].is_number() || rewards[i].is_null());
    if (!fits) break;
    before = end;
    found.push_back(
        {.last_token = end,
         .reward = rewards[i].is_null() ? std::nullopt : std::optional(rewards[i].get<double>())});
  }
  if (!fits) {
    throw UserError(record.where,
                    "`steps` was expected to be {\"last_tokens\": rising places in completion_ids, "
                    "\"rewards\": a number or null for each}.");
  }
  return found;
}

/// As the line says (a stop text leaves no token behind), or else by the last token.
bool truncated_in(const Record& record, int32_t last, const std::vector<int32_t>& ends) {
  const Json reason = record.row.contains("finish_reason") ? record.at("finish_reason") : Json();
  if (reason == "length" || reason == "stop") return reason == "length";
  if (!reason.is_null()) {
    throw UserError(
        record.where,
        fmt::format("`finish_reason` was expected to be stop or length, got {}.", reason.dump()));
  }
  return std::find(ends.begin(), ends.end(), last) == ends.end();
}

/// Why judges failed; such a completion has no reward, whatever other judges said.
std::vector<JudgeFailure> failures_of(const Record& record) {
  if (!record.row.contains("failures")) return {};
  const Json& list = record.at("failures");
  const bool fits = list.is_array() && std::all_of(list.begin(), list.end(),
                                                   [](const Json& one) { return one.is_string(); });
  if (!fits) throw UserError(record.where, "`failures` was expected to be a list of texts.");
  std::vector<JudgeFailure> failures;
  for (const Json& one : list) {
    const auto text = one.get<std::string>();
    const size_t end = std::min(text.find(": "), text.size());
    failures.push_back(
        {.judge = text.substr(0, end), .reason = text.substr(std::min(end + 2, text.size()))});
  }
  return failures;
}

/// Names of rewards and what each line gives for them.
class Columns {
 public:
  std::vector<std::optional<double>> values(const Json& rewards) {
    for (const auto& [name, value] : rewards.items()) {
      if (std::find(names_.begin(), names_.end(), name) == names_.end()) names_.push_back(name);
    }
    std::vector<std::optional<double>> found;
    for (const auto& name : names_) {
      const bool given = rewards.contains(name) && !rewards.at(name).is_null();
      found.push_back(given ? std::optional(rewards.at(name).get<double>()) : std::nullopt);
    }
    return found;
  }
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::vector<std::string> names_;
};

}  // namespace

Replay::Replay(const fs::path& path, int64_t num_generations, const std::vector<int32_t>& ends) {
  Problems problems;
  Columns columns;
  const auto widen = [&](const std::vector<int32_t>& ids) {
    const auto [least, largest] = std::minmax_element(ids.begin(), ids.end());
    limits_.widen(*least, *largest);
  };
  const auto file = std::make_shared<const DataFile>(path);
  DataFile::Cursor cursor(file);
  for (int64_t line = 0; line < file->rows(); ++line) {
    Record record;
    if (const auto problem = parse_record(cursor.read(line), path, record)) {
      problems.add(*problem);
      continue;
    }
    try {
      const auto prompt = ids_of(record, "prompt_ids");
      Sample sample;
      sample.ids = ids_of(record, "completion_ids");
      sample.truncated = truncated_in(record, sample.ids.back(), ends);
      sample.failures = failures_of(record);
      sample.rewards = columns.values(rewards_of(record));
      sample.steps = steps_of(record, sample.tokens());
      if (line % num_generations == 0) {
        groups_.push_back(
            {.row = std::ssize(groups_), .prompt = prompt, .samples = {}, .greedy_reward = {}});
      } else if (groups_.empty() || groups_.back().prompt != prompt) {
        throw UserError(record.where,
                        fmt::format("the prompt of its group was expected: num_generations is {}.",
                                    num_generations),
                        "lines of one prompt must stand together, as many as num_generations.");
      }
      widen(prompt);
      widen(sample.ids);
      limits_.longest =
          std::max(limits_.longest, static_cast<int64_t>(prompt.size() + sample.ids.size()));
      groups_.back().samples.push_back(std::move(sample));
    } catch (const UserError& error) {
      problems.add(error);
    }
  }
  if (file->rows() == 0 || file->rows() % num_generations != 0) {
    problems.add(path.string(),
                 fmt::format("a multiple of num_generations ({}) of lines was expected, got {}.",
                             num_generations, file->rows()));
  }
  problems.throw_if_any();
  judges_ = columns.names();
  for (auto& group : groups_) {
    for (auto& sample : group.samples) sample.rewards.resize(judges_.size());
  }
  fingerprint_ = content_hash_of_file(path);
}

std::vector<Group> Replay::take(int64_t begin, int64_t count) const {
  check(begin >= 0 && begin + count <= groups(), "replay",
        "groups {} to {} were expected among {}.", begin, begin + count, groups());
  return {groups_.begin() + begin, groups_.begin() + begin + count};
}

}  // namespace rlhf
