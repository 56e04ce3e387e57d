#include "rlhf/data/pairs.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "rlhf/core/error.h"
#include "rlhf/data/prepare.h"

namespace rlhf {
namespace {

constexpr int kVersion = 1;  // of what a row becomes; part of the key
constexpr std::array kWanted = {RowType::preference};
constexpr std::array<std::string_view, 3> kIdColumns = {"prompt", "chosen", "rejected"};
constexpr const char* kIdentical = "chosen and rejected are identical";
constexpr const char* kIdenticalCut = "chosen and rejected are identical within max_length";
constexpr const char* kMargin = "with a margin";

enum Column : size_t { kPrompt, kChosen, kRejected, kSkipped, kMarginBits };

/// A pair, and how many tokens of the prompt's beginning each answer goes without.
struct CutPair {
  EncodedPair pair;
  std::array<int32_t, 2> skipped{};
};

/// The last `most` tokens of prompt + answer: cuts the answer, and tells how much of the prompt.
int32_t keep_end(size_t prompt, std::vector<int32_t>& answer, size_t most) {
  if (answer.size() > most) {
    answer.erase(answer.begin(), answer.end() - static_cast<std::ptrdiff_t>(most));
    return static_cast<int32_t>(prompt);
  }
  const size_t left = most - answer.size();
  return static_cast<int32_t>(prompt - std::min(prompt, left));
}

/// Cuts each member to `most` tokens by itself. The prompt must be shorter than that for
/// keep_start.
void cut_members(CutPair& row, size_t most, TruncationMode mode) {
  EncodedPair& pair = row.pair;
  if (mode == TruncationMode::keep_start) {
    for (auto* answer : {&pair.chosen, &pair.rejected})
      answer->resize(std::min(answer->size(), most - pair.prompt.size()));
    return;
  }
  row.skipped = {keep_end(pair.prompt.size(), pair.chosen, most),
                 keep_end(pair.prompt.size(), pair.rejected, most)};
  const int32_t both = std::min(row.skipped[0], row.skipped[1]);
  pair.prompt.erase(pair.prompt.begin(), pair.prompt.begin() + both);
  for (int32_t& skipped : row.skipped) skipped -= both;
}

/// UserError unless something can be learned of an answer of that many tokens.
void require_answer(const Record& record, const char* column, bool has_prompt, size_t tokens) {
  if (tokens > (has_prompt ? 0U : 1U)) return;
  throw UserError(
      record.where,
      tokens == 0
          ? fmt::format("`{}` was expected to have a token, got none.", column)
          : fmt::format("a token before the only one of `{}` was expected, got none.", column),
      "is the row empty?");
}

std::optional<float> margin_of(const Record& record) {
  if (!record.has("margin")) return std::nullopt;
  const Json& margin = record.at("margin");
  const auto value = margin.is_number() ? margin.get<float>() : std::nanf("");
  if (std::isfinite(value)) return value;
  throw UserError(record.where,
                  fmt::format("`margin` was expected to be a number, got {}.", margin.dump()),
                  "leave the column out where rows have none.");
}

class PairEncoder : public RowEncoder {
 public:
  PairEncoder(const Encoder& encoder, const PairOptions& options)
      : encoder_(encoder), options_(options) {}

  void encode(const Record& record, const Schema& schema, RowSink& sink,
              Statistics& statistics) override {
    const bool joint = options_.mode == PairMode::reward;
    CutPair row{.pair =
                    joint ? encoder_.joint_pair(record, schema) : encoder_.pair(record, schema)};
    const std::optional<float> margin = joint ? margin_of(record) : std::nullopt;
    require_answers(record, schema, row.pair);
    if (row.pair.rerendered) statistics.notices[kRerendered].add(record.where);
    const bool identical = row.pair.chosen == row.pair.rejected;
    if (!fits(record, row, statistics)) return;
    if (row.pair.chosen == row.pair.rejected) {
      auto& counts = options_.drop_identical ? statistics.dropped : statistics.notices;
      counts[identical ? kIdentical : kIdenticalCut].add(record.where);
      if (options_.drop_identical) return;
    }
    put(row, margin, sink);
    sink.end_row(record.where);
    if (margin) statistics.notices[kMargin].add(record.where);
    count(row, statistics);
  }

 private:
  void require_answers(const Record& record, const Schema& schema, const EncodedPair& pair) const {
    if (options_.mode == PairMode::dpo) {
      require_answer(record, "chosen", !pair.prompt.empty(), pair.chosen.size());
      require_answer(record, "rejected", !pair.prompt.empty(), pair.rejected.size());
    } else if (schema.form == RowForm::ids) {
      // A score needs no token before it, but one of the answer's own: that of the prompt is none.
      require_answer(record, "chosen_ids", /*has_prompt=*/true, record.at("chosen_ids").size());
      require_answer(record, "rejected_ids", /*has_prompt=*/true, record.at("rejected_ids").size());
    }
  }

  bool fits(const Record& record, CutPair& row, Statistics& statistics) const {
    const EncodedPair& pair = row.pair;
    const size_t longest = pair.prompt.size() + std::max(pair.chosen.size(), pair.rejected.size());
    if (!options_.max_length || longest <= static_cast<size_t>(*options_.max_length)) return true;
    const auto most = static_cast<size_t>(*options_.max_length);
    if (options_.mode == PairMode::reward) {
      statistics.dropped[longer_than(*options_.max_length)].add(record.where);
      return false;
    }
    if (options_.truncation_mode == TruncationMode::keep_start && pair.prompt.size() >= most) {
      statistics.dropped[nothing_left_within(*options_.max_length)].add(record.where);
      return false;
    }
    cut_members(row, most, options_.truncation_mode);
    statistics.cut[longer_than(*options_.max_length)].add(record.where);
    return true;
  }

  static void put(const CutPair& row, std::optional<float> margin, RowSink& sink) {
    sink.put(kPrompt, row.pair.prompt);
    sink.put(kChosen, row.pair.chosen);
    sink.put(kRejected, row.pair.rejected);
    if (row.skipped != std::array<int32_t, 2>{}) sink.put(kSkipped, row.skipped);
    if (margin) sink.put(kMarginBits, std::array{std::bit_cast<int32_t>(*margin)});
  }

  void count(const CutPair& row, Statistics& statistics) const {
    const auto& [pair, skipped] = row;
    const int64_t answers = std::ssize(pair.chosen) + std::ssize(pair.rejected);
    ++statistics.rows;
    statistics.tokens += std::ssize(pair.prompt) + answers;
    statistics.supervised_tokens += answers;
    statistics.longest = std::max(
        {statistics.longest, std::ssize(pair.prompt) - skipped[0] + std::ssize(pair.chosen),
         std::ssize(pair.prompt) - skipped[1] + std::ssize(pair.rejected)});
    if (encoder_.has_stop(pair.chosen) && encoder_.has_stop(pair.rejected)) ++*statistics.eos_rows;
  }

  const Encoder& encoder_;
  const PairOptions& options_;
};

void check_schemas(std::span<const Schema> schemas, bool has_chat) {
  Problems problems;
  for (const Schema& schema : schemas) require_chat(schema, has_chat, problems);
  problems.throw_if_any();
}

}  // namespace

Json PairOptions::key() const {
  return {{"mode", mode == PairMode::dpo ? "dpo" : "reward"},
          {"max_length", max_length ? Json(*max_length) : Json()},
          {"truncation_mode",
           truncation_mode == TruncationMode::keep_start ? "keep_start" : "keep_end"},
          {"drop_identical", drop_identical},
          {"text", text.key()}};
}

PairDataset::PairDataset(std::shared_ptr<const RaggedCache> cache, std::vector<std::string> files)
    : EncodedRows(std::move(cache), std::move(files), kIdColumns),
      prompt_(this->cache().column("prompt")),
      chosen_(this->cache().column("chosen")),
      rejected_(this->cache().column("rejected")),
      skipped_(this->cache().column("skipped")),
      margin_(this->cache().column("margin")) {}

std::span<const int32_t> PairDataset::prompt_end(int64_t row, size_t member) const {
  const auto skipped = cache().int32s(skipped_, row);
  return prompt(row).subspan(skipped.empty() ? 0 : static_cast<size_t>(skipped[member]));
}

std::span<const int32_t> PairDataset::chosen_prompt(int64_t row) const {
  return prompt_end(row, 0);
}
std::span<const int32_t> PairDataset::rejected_prompt(int64_t row) const {
  return prompt_end(row, 1);
}

std::optional<float> PairDataset::margin(int64_t row) const {
  const auto bits = cache().int32s(margin_, row);
  if (bits.empty()) return std::nullopt;
  return std::bit_cast<float>(bits.front());
}

int64_t PairDataset::length(int64_t row) const {
  return std::max(std::ssize(chosen_prompt(row)) + std::ssize(chosen(row)),
                  std::ssize(rejected_prompt(row)) + std::ssize(rejected(row)));
}

std::vector<int64_t> PairDataset::lengths() const {
  return of_every_row([this](int64_t row) { return length(row); });
}

PairDataset prepare_pairs(const DataSpec& spec, const Tokenizer& tokenizer,
                          const std::optional<ChatTemplate>& chat, std::string_view fingerprint,
                          const PairOptions& options, const fs::path& cache_folder,
                          Statistics* statistics) {
  const Encoder encoder(tokenizer, chat ? &*chat : nullptr,
                        encode_options(options.max_length, options.text));
  const PrepareRecipe recipe{
      .method = "pairs",
      .version = kVersion,
      .options = options.key(),
      .columns = {{"prompt", ColumnType::int32},
                  {"chosen", ColumnType::int32},
                  {"rejected", ColumnType::int32},
                  {"skipped", ColumnType::int32},
                  {"margin", ColumnType::int32}},
      .wanted = kWanted,
      .on_bad_row = options.text.on_bad_row,
      .check_schemas = [&](auto schemas) { check_schemas(schemas, chat.has_value()); },
      .encoder = [&] { return std::make_unique<PairEncoder>(encoder, options); }};
  PreparedRows rows = prepare_rows(spec, fingerprint, recipe, cache_folder, statistics);
  return {std::move(rows.cache), std::move(rows.files)};
}

}  // namespace rlhf
