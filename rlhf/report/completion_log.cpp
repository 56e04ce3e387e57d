#include "rlhf/report/completion_log.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <unordered_map>

#include "rlhf/core/error.h"
#include "rlhf/core/utf8.h"
#include "rlhf/report/json_lines.h"

namespace rlhf {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

/// Successive lines of one prompt, [first, end).
struct GroupOfLines {
  size_t first;
  size_t end;
};

/// What the first reading finds.
struct Survey {
  CompletionLog log;
  std::vector<int64_t> positions;  ///< first byte of every line that is used
  std::vector<GroupOfLines> groups;
};

std::ifstream open_log(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw UserError(path.string(), "the file cannot be read.", "look at its permissions.");
  return file;
}

Json field(const Json& row, const std::string& key) {
  const auto found = row.find(key);
  return found == row.end() ? Json(nullptr) : *found;
}

class Surveyor {
 public:
  void add(const Json& row, int64_t position) {
    CompletionLog& log = survey_.log;
    const size_t line = log.steps.size();
    log.steps.push_back(row.at("step").get<int64_t>());
    survey_.positions.push_back(position);
    set("reward", line, number_or_nan(row, "reward"));
    if (const auto rewards = row.find("rewards"); rewards != row.end() && rewards->is_object()) {
      for (const auto& [judge, value] : rewards->items())
        set("rewards/" + judge, line, value.is_number() ? value.get<double>() : kNone);
    }
    set("advantage", line, number_or_nan(row, "advantage"));
    const auto ids = row.find("completion_ids");
    const bool counted = ids != row.end() && ids->is_array();
    set("length", line, counted ? static_cast<double>(ids->size()) : kNone);
    std::string prompt = text_or_empty(row, "prompt");
    Json generation = field(row, "generation");
    if (line == 0 || prompt != prompt_ || generation != generation_)
      survey_.groups.push_back({.first = line, .end = line});
    survey_.groups.back().end = line + 1;
    prompt_ = std::move(prompt);
    generation_ = std::move(generation);
  }

  Survey take() {
    CompletionLog& log = survey_.log;
    for (auto& quantity : log.quantities) {
      quantity.values.resize(log.steps.size(), kNone);
      if (quantity.name.starts_with(kPrefix))
        log.judges.push_back(quantity.name.substr(kPrefix.size()));
    }
    return std::move(survey_);
  }

 private:
  static constexpr std::string_view kPrefix = "rewards/";

  void set(const std::string& name, size_t line, double value) {
    auto& quantities = survey_.log.quantities;
    const auto [place, added] = places_.try_emplace(name, quantities.size());
    if (added) quantities.push_back({.name = name, .values = {}});
    auto& values = quantities[place->second].values;
    values.resize(line, kNone);
    values.push_back(value);
  }

  Survey survey_;
  std::unordered_map<std::string, size_t> places_;
  std::string prompt_;
  Json generation_;
};

/// The lines to keep: all, or whole groups spread evenly over the file.
std::vector<size_t> choose_lines(const std::vector<GroupOfLines>& groups, size_t lines,
                                 size_t most) {
  std::vector<size_t> chosen;
  if (most == 0 || lines == 0) return chosen;
  for (size_t wanted = lines <= most ? groups.size()
                                     : std::max<size_t>(1, groups.size() * most / lines);
       wanted > 0; --wanted) {
    chosen.clear();
    for (size_t i = 0; i < wanted; ++i) {
      const auto& group = groups[wanted == 1 ? 0 : i * (groups.size() - 1) / (wanted - 1)];
      for (size_t line = group.first; line < group.end; ++line) chosen.push_back(line);
    }
    if (chosen.size() <= most) return chosen;
  }
  chosen.resize(most);  // one group is larger than that
  return chosen;
}

/// `{"text", "cut"}`: at most `most` characters, and how many were left out.
Json cut_text(const std::string& text, int64_t most) {
  int64_t characters = 0;
  size_t end = text.size();
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0U) == 0x80U) continue;
    if (characters++ == most) end = i;
  }
  return {{"text", text.substr(0, end)}, {"cut", std::max<int64_t>(0, characters - most)}};
}

class Keeper {
 public:
  Keeper(CompletionLog& log, const KeepLimits& limits) : log_(log), limits_(limits) {}

  void add(const Json& row, size_t group) {
    Json rewards = Json::array();
    const Json given = field(row, "rewards");
    for (const auto& judge : log_.judges) {
      const bool has = given.is_object() && given.contains(judge) && given[judge].is_number();
      rewards.push_back(has ? given[judge] : Json(nullptr));
    }
    const Json text = cut_text(text_or_empty(row, "completion"), limits_.text_characters);
    const Json ids = field(row, "completion_ids");
    log_.kept.push_back({{"step", row.at("step")},
                         {"generation", field(row, "generation")},
                         {"group", group},
                         {"prompt", prompt_index(text_or_empty(row, "prompt"))},
                         {"text", text.at("text")},
                         {"cut", text.at("cut")},
                         {"reward", field(row, "reward")},
                         {"rewards", std::move(rewards)},
                         {"advantage", field(row, "advantage")},
                         {"length", ids.is_array() ? Json(ids.size()) : Json(nullptr)},
                         {"finish", field(row, "finish_reason")},
                         {"failures", field(row, "failures")},
                         {"row", field(row, "row")}});
  }

 private:
  size_t prompt_index(const std::string& prompt) {
    const auto [place, added] = prompts_.try_emplace(prompt, log_.prompts.size());
    if (added) log_.prompts.push_back(cut_text(prompt, limits_.text_characters));
    return place->second;
  }

  CompletionLog& log_;
  const KeepLimits& limits_;
  std::unordered_map<std::string, size_t> prompts_;
};

void keep_lines(const fs::path& path, const std::vector<size_t>& chosen, const Survey& survey,
                const KeepLimits& limits, CompletionLog& log) {
  std::ifstream file = open_log(path);
  Keeper keeper(log, limits);
  size_t group = 0;
  for (const size_t line : chosen) {
    while (survey.groups[group].end <= line) ++group;
    file.seekg(survey.positions[line]);
    std::string text;
    std::getline(file, text);
    const Json row = Json::parse(replace_invalid_utf8(text), nullptr, /*allow_exceptions=*/false);
    // A run that was resumed meanwhile cuts the file and writes other lines there.
    if (row.is_object() && row.contains("step")) keeper.add(row, group);
  }
}

}  // namespace

CompletionLog read_completions(const fs::path& path, const KeepLimits& limits,
                               std::vector<std::string>& notes) {
  if (!fs::exists(path)) return {};
  std::ifstream file = open_log(path);
  Surveyor surveyor;
  for_each_step_line(file, path.string(), notes,
                     [&](const Json& row, int64_t position) { surveyor.add(row, position); });
  Survey survey = surveyor.take();
  CompletionLog log = std::move(survey.log);
  log.present = true;
  const auto most = static_cast<size_t>(limits.completions);
  const auto chosen = choose_lines(survey.groups, survey.positions.size(), most);
  keep_lines(path, chosen, survey, limits, log);
  if (chosen.size() < survey.positions.size()) {
    notes.push_back(Problem{
        .where = path.string(),
        .what = fmt::format("the page holds {} of {} completions, evenly spread; histograms "
                            "count all.",
                            chosen.size(), survey.positions.size()),
        .hint = "--max_completions says how many it holds."}
                        .text());
  }
  return log;
}

}  // namespace rlhf
