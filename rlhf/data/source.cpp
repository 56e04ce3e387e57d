#include "rlhf/data/source.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "rlhf/core/log.h"
#include "rlhf/core/random.h"
#include "rlhf/core/threads.h"

namespace rlhf {
namespace {

/// Rows set aside of `rows`, as datasets' train_test_split counts them.
int64_t test_rows(int64_t rows, double test_size) {
  const double wanted =
      test_size < 1 ? std::ceil(test_size * static_cast<double>(rows)) : test_size;
  const auto count = static_cast<int64_t>(wanted);
  if (test_size <= 0 || count >= rows) {
    throw UserError(
        "test_split_size",
        fmt::format("a share between 0 and 1 or a count below the {} rows was expected, got {}.",
                    rows, test_size));
  }
  return count;
}

int64_t weighted_rows(int64_t rows, double weight) {
  return static_cast<int64_t>(static_cast<double>(rows) * weight);
}

std::vector<std::shared_ptr<const DataFile>> scan_files(const std::vector<fs::path>& paths) {
  std::vector<std::shared_ptr<const DataFile>> files(paths.size());
  std::vector<std::optional<UserError>> errors(paths.size());
  parallel_pieces(static_cast<int64_t>(paths.size()), /*grain=*/1, [&](int64_t begin, int64_t) {
    const auto i = static_cast<size_t>(begin);
    try {
      files[i] = std::make_shared<const DataFile>(paths[i]);
    } catch (const UserError& error) {
      errors[i] = error;
    }
  });
  Problems problems;
  for (const auto& error : errors) {
    if (error) problems.add(*error);
  }
  problems.throw_if_any();
  return files;
}

}  // namespace

std::vector<int64_t> mixture_counts(std::span<const int64_t> rows,
                                    std::span<const std::optional<double>> fractions) {
  const auto given =
      std::count_if(fractions.begin(), fractions.end(), [](auto f) { return f.has_value(); });
  if (given == 0) return {rows.begin(), rows.end()};
  double sum = 0;
  for (const auto& fraction : fractions) {
    if (!fraction || !(*fraction >= 0)) {
      throw UserError("datasets",
                      "a `fraction` of 0 or more was expected for every set or for none.");
    }
    sum += *fraction;
  }
  if (sum <= 0) throw UserError("datasets", "one `fraction` above 0 was expected at least.");
  double total = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < rows.size(); ++i) {
    const double share = *fractions[i] / sum;
    if (share > 0) total = std::min(total, static_cast<double>(rows[i]) / share);
  }
  std::vector<int64_t> counts;
  for (size_t i = 0; i < rows.size(); ++i) {
    counts.push_back(static_cast<int64_t>(std::nearbyint(*fractions[i] / sum * total)));
  }
  return counts;
}

RowSet::RowSet(const DataSpec& spec, std::span<const RowType> wanted) {
  std::vector<fs::path> paths;
  std::vector<size_t> source_of_path;
  std::vector<std::optional<double>> fractions;
  Problems problems;
  for (size_t s = 0; s < spec.sources.size(); ++s) {
    fractions.push_back(spec.sources[s].fraction);
    reshapes_.push_back(spec.sources[s].reshape);
    try {
      for (auto& file : resolve_files(spec.sources[s])) {
        paths.push_back(std::move(file));
        source_of_path.push_back(s);
      }
    } catch (const UserError& error) {
      problems.add(error);
    }
  }
  problems.throw_if_any();
  const auto files = scan_files(paths);

  std::vector<int64_t> rows(spec.sources.size());
  for (size_t f = 0; f < files.size(); ++f) rows[source_of_path[f]] += files[f]->rows();
  for (size_t s = 0; s < rows.size(); ++s) rows[s] = weighted_rows(rows[s], spec.sources[s].weight);
  std::vector<int64_t> left = mixture_counts(rows, fractions);
  uint64_t bytes = 0;
  for (size_t f = 0; f < files.size(); ++f) {
    const size_t source = source_of_path[f];
    const int64_t taken = std::min(left[source], files[f]->rows());
    if (taken == 0) continue;
    blocks_.push_back({files[f], source, total_, taken});
    bytes_before_.push_back(bytes);
    bytes += files[f]->position_near(taken);
    total_ += taken;
    left[source] -= taken;
  }
  if (total_ == 0) {
    throw UserError(paths.empty() ? "dataset_name" : paths.front().string(),
                    "one row was expected at least, got none.");
  }

  for (size_t s = 0; s < rows.size(); ++s) {
    const DataSource& source = spec.sources[s];
    if (!gives_rows(s) && source.weight > 0 && source.fraction.value_or(1.0) > 0)
      log_warning("[{}: {}] its share of the mixture is less than one row: it is left out.",
                  source.path.string(), source.split);
  }
  schemas_.resize(spec.sources.size());
  std::vector<bool> known(spec.sources.size());
  for (const Block& block : blocks_) {
    if (known[block.source]) continue;
    known[block.source] = true;
    Record first;
    DataFile::Cursor cursor(block.file);
    const RawRow raw = cursor.read(0);
    std::optional<Problem> problem = parse_record(raw, block.file->path(), first);
    if (!problem) problem = reshape_row(first, reshapes_[block.source]);
    if (problem) {
      problems.add(*problem);
      continue;
    }
    try {
      schemas_[block.source] = detect_schema(first, wanted);
    } catch (const UserError& error) {
      problems.add(error);
    }
  }
  problems.throw_if_any();
  split(spec);
}

void RowSet::split(const DataSpec& spec) {
  if (!spec.test_size) {
    check(spec.part == DataSpec::Part::all, "data", "a part was asked for without a test size.");
    return;
  }
  if (spec.part == DataSpec::Part::all) return;
  check(total_ <= std::numeric_limits<uint32_t>::max(), "data", "too many rows to split.");
  // Selection sampling (Knuth, The Art of Computer Programming 2, 3.4.2, algorithm S): exact count,
  // file order.
  int64_t wanted = test_rows(total_, *spec.test_size);
  Random random(spec.seed, {kRandomMixture});
  for (int64_t row = 0; row < total_; ++row) {
    const bool test =
        static_cast<int64_t>(random.below(static_cast<uint64_t>(total_ - row))) < wanted;
    wanted -= test ? 1 : 0;
    if (test == (spec.part == DataSpec::Part::test))
      selected_.push_back(static_cast<uint32_t>(row));
  }
  split_ = true;
}

int64_t RowSet::rows() const { return split_ ? static_cast<int64_t>(selected_.size()) : total_; }

int64_t RowSet::blank_lines() const {
  int64_t blank = 0;
  for (const Block& block : blocks_) blank += block.file->blank_lines();
  return blank;
}

bool RowSet::gives_rows(size_t source) const {
  return std::any_of(blocks_.begin(), blocks_.end(),
                     [&](const Block& block) { return block.source == source; });
}

std::vector<Schema> RowSet::schemas() const {
  std::vector<Schema> found;
  for (size_t s = 0; s < schemas_.size(); ++s) {
    if (gives_rows(s)) found.push_back(schemas_[s]);
  }
  return found;
}

size_t RowSet::block_of(int64_t place) const {
  const auto after =
      std::upper_bound(blocks_.begin(), blocks_.end(), place,
                       [](int64_t wanted, const Block& block) { return wanted < block.begin; });
  return static_cast<size_t>(after - blocks_.begin()) - 1;
}

const Schema& RowSet::schema(int64_t row) const {
  return schemas_[blocks_[block_of(place(row))].source];
}

uint64_t RowSet::byte_position(int64_t place) const {
  const size_t block = block_of(place);
  return bytes_before_[block] + blocks_[block].file->position_near(place - blocks_[block].begin);
}

std::vector<int64_t> RowSet::pieces(uint64_t bytes, int64_t most) const {
  std::vector<int64_t> ends;
  int64_t begin = 0;
  uint64_t begin_position = byte_position(place(0));
  for (int64_t row = 1; row < rows(); ++row) {
    const bool full = row - begin >= most || (row % DataFile::kMarkRows == 0 &&
                                              byte_position(place(row)) - begin_position >= bytes);
    if (!full) continue;
    ends.push_back(row);
    begin = row;
    begin_position = byte_position(place(row));
  }
  ends.push_back(rows());
  return ends;
}

std::optional<Problem> RowSet::Cursor::read(int64_t row, Record& record) {
  const int64_t place = set_->place(row);
  const size_t index = set_->block_of(place);
  const Block& block = set_->blocks_[index];
  const auto found = open_.try_emplace(index, block.file).first;
  const RawRow raw = found->second.read(place - block.begin);
  if (auto problem = parse_record(raw, block.file->path(), record)) return problem;
  if (auto problem = reshape_row(record, set_->reshapes_[block.source])) return problem;
  return check_row(record, set_->schemas_[block.source]);
}

}  // namespace rlhf
