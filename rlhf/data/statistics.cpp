#include "rlhf/data/statistics.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace rlhf {
namespace {

using Tallies = std::map<std::string, Tally>;

void merge_tallies(Tallies& into, const Tallies& later) {
  for (const auto& [reason, tally] : later) into[reason].merge(tally);
}

Json tallies_to_json(const Tallies& tallies) {
  Json json = Json::object();
  for (const auto& [reason, tally] : tallies)
    json[reason] = {{"count", tally.count}, {"examples", tally.examples}};
  return json;
}

Tallies tallies_from_json(const Json& json) {
  Tallies tallies;
  for (const auto& [reason, tally] : json.items()) {
    tallies[reason] = {tally.at("count").get<int64_t>(),
                       tally.at("examples").get<std::vector<std::string>>()};
  }
  return tallies;
}

std::string tallies_text(std::string_view title, const Tallies& tallies) {
  std::string text;
  for (const auto& [reason, tally] : tallies) {
    text += fmt::format("{:<20}{:>12}  {} ({}{})\n", title, tally.count, reason,
                        fmt::join(tally.examples, ", "),
                        tally.count > static_cast<int64_t>(tally.examples.size()) ? ", ..." : "");
  }
  return text;
}

}  // namespace

void Tally::add(std::string_view where) {
  ++count;
  if (examples.size() < kMostExamples) examples.emplace_back(where);
}

void Tally::merge(const Tally& later) {
  count += later.count;
  for (const auto& example : later.examples) {
    if (examples.size() < kMostExamples) examples.push_back(example);
  }
}

void Statistics::merge(const Statistics& later) {
  rows_read += later.rows_read;
  blank_lines += later.blank_lines;
  rows += later.rows;
  tokens += later.tokens;
  supervised_tokens += later.supervised_tokens;
  longest = std::max(longest, later.longest);
  if (eos_rows && later.eos_rows) {
    *eos_rows += *later.eos_rows;
  } else {
    eos_rows.reset();
  }
  merge_tallies(cut, later.cut);
  merge_tallies(dropped, later.dropped);
  merge_tallies(notices, later.notices);
}

Json Statistics::to_json() const {
  return {{"rows_read", rows_read},
          {"blank_lines", blank_lines},
          {"rows", rows},
          {"tokens", tokens},
          {"supervised_tokens", supervised_tokens},
          {"longest", longest},
          {"eos_rows", eos_rows ? Json(*eos_rows) : Json()},
          {"cut", tallies_to_json(cut)},
          {"dropped", tallies_to_json(dropped)},
          {"notices", tallies_to_json(notices)}};
}

Statistics Statistics::from_json(const Json& json) {
  Statistics statistics;
  statistics.rows_read = json.at("rows_read");
  statistics.blank_lines = json.at("blank_lines");
  statistics.rows = json.at("rows");
  statistics.tokens = json.at("tokens");
  statistics.supervised_tokens = json.at("supervised_tokens");
  statistics.longest = json.at("longest");
  statistics.eos_rows.reset();
  if (!json.at("eos_rows").is_null()) statistics.eos_rows = json.at("eos_rows").get<int64_t>();
  statistics.cut = tallies_from_json(json.at("cut"));
  statistics.dropped = tallies_from_json(json.at("dropped"));
  statistics.notices = tallies_from_json(json.at("notices"));
  return statistics;
}

std::string Statistics::table() const {
  std::string text = fmt::format("{:<20}{:>12}", "rows", rows);
  if (rows != rows_read) text += fmt::format("  of {} read", rows_read);
  text += fmt::format("\n{:<20}{:>12}", "tokens", tokens);
  if (rows > 0) {
    text += fmt::format("  {:.1f} a row, longest text {}",
                        static_cast<double>(tokens) / static_cast<double>(rows), longest);
  }
  text += "\n";
  if (supervised_tokens > 0 || eos_rows) {  // else nothing is supervised by design: scores, prompts
    text += fmt::format("{:<20}{:>12}  {:.1f}%\n", "supervised tokens", supervised_tokens,
                        100.0 * static_cast<double>(supervised_tokens) /
                            static_cast<double>(std::max<int64_t>(tokens, 1)));
  }
  if (eos_rows) text += fmt::format("EOS supervised in {}/{} rows\n", *eos_rows, rows);
  if (blank_lines > 0) text += fmt::format("{:<20}{:>12}\n", "blank lines", blank_lines);
  return text + tallies_text("cut", cut) + tallies_text("dropped", dropped) +
         tallies_text("notice", notices);
}

}  // namespace rlhf
