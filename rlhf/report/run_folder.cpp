#include "rlhf/report/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "rlhf/core/error.h"
#include "rlhf/report/tensorboard.h"

namespace rlhf {
namespace {

/// The lines of metrics.jsonl up to `last_step`. A last line cut off by a kill is dropped with the
/// later ones.
std::string lines_up_to(const fs::path& path, int64_t last_step) {
  if (last_step == 0 || !fs::exists(path)) return "";
  std::string kept;
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);) {
    const Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!row.is_object() || !row.contains("step") || row["step"].get<int64_t>() > last_step)
      continue;
    kept += line + '\n';
  }
  return kept;
}

std::string tag_of(const std::string& metric) {
  constexpr std::string_view kEval = "eval_";
  return metric.starts_with(kEval) ? "eval/" + metric.substr(kEval.size()) : "train/" + metric;
}

}  // namespace

void MetricWindow::add(const std::string& name, double value) {
  const auto found =
      std::find_if(sums_.begin(), sums_.end(), [&](const Sum& sum) { return sum.name == name; });
  Sum& sum = found == sums_.end() ? sums_.emplace_back(Sum{.name = name}) : *found;
  sum.total += value;
  ++sum.count;
}

Json MetricWindow::take() {
  Json means = Json::object();
  for (const auto& sum : sums_) means[sum.name] = sum.total / static_cast<double>(sum.count);
  sums_.clear();
  return means;
}

Json MetricWindow::state() const {
  Json state = Json::array();
  for (const auto& sum : sums_) state.push_back({sum.name, sum.total, sum.count});
  return state;
}

void MetricWindow::set_state(const Json& state) {
  sums_.clear();
  for (const auto& entry : state) {
    sums_.push_back(
        {entry.at(0).get<std::string>(), number_or_nan(entry.at(1)), entry.at(2).get<int64_t>()});
  }
}

RunFolder::RunFolder(fs::path path, int64_t resumed_step, bool tensorboard)
    : path_(std::move(path)) {
  std::error_code error;
  fs::create_directories(path_, error);
  if (error) throw_write_error(path_, error.value());
  lock_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock_ < 0) throw_write_error(path_, errno);
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(lock_);
    throw UserError("output_dir", fmt::format("another process is running in {}.", path_.string()),
                    "wait for it, stop it, or choose another output_dir.");
  }
  const fs::path metrics = path_ / "metrics.jsonl";
  write_file(metrics, lines_up_to(metrics, resumed_step));
  const int64_t first_step = resumed_step == 0 ? 0 : resumed_step + 1;
  if (tensorboard) events_ = std::make_unique<TensorBoardWriter>(path_, first_step);
}

RunFolder::~RunFolder() {
  if (lock_ >= 0) ::close(lock_);
}

void RunFolder::log(int64_t step, const Json& metrics) {
  Json line = {{"step", step}};
  std::vector<std::pair<std::string, double>> scalars;
  for (const auto& [name, value] : metrics.items()) {
    line[name] = value;
    if (value.is_number()) scalars.emplace_back(tag_of(name), value.get<double>());
  }
  append_file(path_ / "metrics.jsonl", line.dump() + '\n');
  if (events_) events_->add(step, scalars);
}

}  // namespace rlhf
