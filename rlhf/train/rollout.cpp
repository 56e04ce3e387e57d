#include "rlhf/train/rollout.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "rlhf/core/error.h"
#include "rlhf/models/safetensors.h"

namespace rlhf {
namespace {

/// Runs of values of different lengths, one behind the other, with where each begins.
template <class T>
struct Ragged {
  std::vector<T> values;
  std::vector<int64_t> begins{0};

  void add(const std::vector<T>& run) {
    values.insert(values.end(), run.begin(), run.end());
    begins.push_back(std::ssize(values));
  }
};

template <class T>
at::Tensor tensor_of(const std::vector<T>& values) {
  auto made = at::empty({std::ssize(values)}, c10::CppTypeToScalarType<T>::value);
  std::copy(values.begin(), values.end(), made.template data_ptr<T>());
  return made;
}

template <class T>
void put(std::vector<NamedTensor>& tensors, const std::string& name, const Ragged<T>& ragged) {
  tensors.push_back({name, tensor_of(ragged.values)});
  tensors.push_back({name + ".begin", tensor_of(ragged.begins)});
}

/// The tensors of a file by name.
class Columns {
 public:
  explicit Columns(const fs::path& path) : path_(path), file_(path) {
    for (const auto& one : file_.tensors()) by_name_[one.name] = file_.view(one);
  }

  template <class T>
  std::vector<T> values(const std::string& name) const {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) throw UserError(path_.string(), fmt::format("it lacks {}.", name));
    const auto plain = found->second.contiguous();
    const T* data = plain.template const_data_ptr<T>();
    return {data, data + plain.numel()};
  }

  template <class T>
  std::vector<std::vector<T>> runs(const std::string& name) const {
    const auto flat = values<T>(name);
    const auto begins = values<int64_t>(name + ".begin");
    std::vector<std::vector<T>> runs;
    for (size_t i = 0; i + 1 < begins.size(); ++i)
      runs.emplace_back(flat.begin() + begins[i], flat.begin() + begins[i + 1]);
    return runs;
  }

 private:
  fs::path path_;
  SafetensorsFile file_;
  std::map<std::string, at::Tensor> by_name_;
};

}  // namespace

int64_t Rollout::samples() const {
  int64_t count = 0;
  for (const auto& group : groups) count += std::ssize(group.samples);
  return count;
}

int64_t Rollout::completion_tokens(bool mask_truncated) const {
  int64_t tokens = 0;
  for (const auto& group : groups) {
    for (const auto& sample : group.samples) {
      if (sample.counts(mask_truncated)) tokens += sample.tokens();
    }
  }
  return tokens;
}

std::vector<RolloutRow> rows_of(Rollout& rollout, int64_t begin, int64_t end) {
  std::vector<RolloutRow> rows;
  int64_t number = 0;
  for (auto& group : rollout.groups) {
    for (auto& sample : group.samples) {
      if (number >= begin && number < end) rows.push_back({&group, &sample});
      ++number;
    }
  }
  return rows;
}

std::vector<NamedTensor> to_tensors(const Rollout& rollout) {
  Ragged<int32_t> prompts;
  Ragged<int32_t> completions;
  Ragged<float> advantages;
  Ragged<float> old_logprobs;
  Ragged<float> ref_logprobs;
  Ragged<float> values;
  Ragged<float> returns;
  std::vector<int64_t> rows;
  std::vector<int64_t> sizes;
  std::vector<uint8_t> truncated;
  for (const auto& group : rollout.groups) {
    prompts.add(group.prompt);
    rows.push_back(group.row);
    sizes.push_back(std::ssize(group.samples));
    for (const auto& sample : group.samples) {
      completions.add(sample.ids);
      advantages.add(sample.advantages);
      old_logprobs.add(sample.old_logprobs);
      ref_logprobs.add(sample.ref_logprobs);
      values.add(sample.values);
      returns.add(sample.returns);
      truncated.push_back(sample.truncated ? 1 : 0);
    }
  }
  std::vector<NamedTensor> tensors = {
      {"rollout", tensor_of(std::vector<int64_t>{rollout.number, rollout.step})},
      {"rows", tensor_of(rows)},
      {"sizes", tensor_of(sizes)},
      {"truncated", tensor_of(truncated)}};
  put(tensors, "prompts", prompts);
  put(tensors, "completions", completions);
  put(tensors, "advantages", advantages);
  put(tensors, "old_logprobs", old_logprobs);
  put(tensors, "ref_logprobs", ref_logprobs);
  put(tensors, "values", values);
  put(tensors, "returns", returns);
  return tensors;
}

Rollout read_rollout(const fs::path& file) {
  const Columns columns(file);
  const auto head = columns.values<int64_t>("rollout");
  Rollout rollout{.number = head.at(0), .step = head.at(1), .groups = {}};
  const auto rows = columns.values<int64_t>("rows");
  const auto sizes = columns.values<int64_t>("sizes");
  const auto truncated = columns.values<uint8_t>("truncated");
  auto prompts = columns.runs<int32_t>("prompts");
  auto completions = columns.runs<int32_t>("completions");
  auto advantages = columns.runs<float>("advantages");
  auto old_logprobs = columns.runs<float>("old_logprobs");
  auto ref_logprobs = columns.runs<float>("ref_logprobs");
  auto values = columns.runs<float>("values");
  auto returns = columns.runs<float>("returns");
  size_t next = 0;
  for (size_t g = 0; g < rows.size(); ++g) {
    Group group{
        .row = rows[g], .prompt = std::move(prompts.at(g)), .samples = {}, .greedy_reward = {}};
    for (int64_t i = 0; i < sizes.at(g); ++i, ++next) {
      Sample sample;
      sample.ids = std::move(completions.at(next));
      sample.truncated = truncated.at(next) != 0;
      sample.advantages = std::move(advantages.at(next));
      sample.old_logprobs = std::move(old_logprobs.at(next));
      sample.ref_logprobs = std::move(ref_logprobs.at(next));
      sample.values = std::move(values.at(next));
      sample.returns = std::move(returns.at(next));
      group.samples.push_back(std::move(sample));
    }
    rollout.groups.push_back(std::move(group));
  }
  return rollout;
}

}  // namespace rlhf
