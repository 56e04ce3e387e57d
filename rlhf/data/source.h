// Where rows come from: files, folders, mixtures of several, and the split of one set into training
// and test rows.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/data/records.h"
#include "rlhf/data/schema.h"

namespace rlhf {

/// One set: a file, or a folder with a file (or several) for each split.
struct DataSource {
  fs::path path{};
  std::string name{};      ///< a folder inside `path`
  std::string data_dir{};  ///< a folder inside that
  /// Files inside that, `*` allowed in the last part; they replace the split.
  std::vector<std::string> data_files{};
  std::string split = "train";
  RowReshape reshape{};
  std::optional<double> fraction =
      std::nullopt;     ///< share of the mixture; of all sources or of none
  double weight = 1.0;  ///< share of its own rows that is taken, from the first on; rounded down
};

/// What a run reads. Rows stand in the order of the sources and their files.
struct DataSpec {
  enum class Part { all, train, test };

  std::vector<DataSource> sources{};
  /// Rows set aside: below 1 a share (rounded up), otherwise a count. Chosen by `seed`; both parts
  /// keep file order.
  std::optional<double> test_size = std::nullopt;
  Part part = Part::all;  ///< must be `all` without test_size
  uint64_t seed = 42;
};

/// The files of a source, sorted by name. A file stands for the split `train`. In a folder:
/// SPLIT.jsonl, SPLIT.json (also .gz), SPLIT-*.jsonl, the files of a folder SPLIT; for `train`,
/// where no file is named after any split, every .jsonl file. UserError naming what was looked for.
std::vector<fs::path> resolve_files(const DataSource& source);

/// Whether resolve_files() would find something.
bool has_split(const DataSource& source);

/// Rows each source gives to the mixture. TRL's rule: shares are normalised, the total is the
/// largest that takes no source beyond its rows, and source i gives its first round(share_i ·
/// total) rows (halves to even).
std::vector<int64_t> mixture_counts(std::span<const int64_t> rows,
                                    std::span<const std::optional<double>> fractions);

/// Every row of a DataSpec by number, read from the files when asked for. Immutable and shared by
/// threads.
class RowSet {
 public:
  /// Scans the files and finds the schema of each source from its first row. UserError with every
  /// problem found.
  RowSet(const DataSpec& spec, std::span<const RowType> wanted);

  int64_t rows() const;
  int64_t blank_lines() const;
  /// Schema of the source that row `row` belongs to.
  const Schema& schema(int64_t row) const;
  /// Schema of each source that gives rows.
  std::vector<Schema> schemas() const;
  /// Ends of consecutive runs of rows that hold about `bytes` bytes of text each and `most` rows at
  /// most; the last is rows().
  std::vector<int64_t> pieces(uint64_t bytes, int64_t most) const;

  /// Reads rows; one a thread. In rising order every byte is read once.
  class Cursor {
   public:
    explicit Cursor(const RowSet& set) : set_(&set) {}
    /// Row `row`, reshaped and checked; the problem where it is bad.
    std::optional<Problem> read(int64_t row, Record& record);

   private:
    const RowSet* set_;
    std::map<size_t, DataFile::Cursor> open_;  // by block
  };

 private:
  /// Consecutive rows of one file.
  struct Block {
    std::shared_ptr<const DataFile> file;
    size_t source;
    int64_t begin;  ///< number of its first row among all rows before the split
    int64_t rows;
  };

  /// Row number before the split.
  int64_t place(int64_t row) const { return split_ ? selected_[static_cast<size_t>(row)] : row; }
  size_t block_of(int64_t place) const;
  uint64_t byte_position(int64_t place) const;
  void split(const DataSpec& spec);
  bool gives_rows(size_t source) const;

  std::vector<Block> blocks_;
  std::vector<RowReshape> reshapes_;    // by source
  std::vector<Schema> schemas_;         // by source
  std::vector<uint64_t> bytes_before_;  // text in the blocks before each block
  int64_t total_ = 0;
  bool split_ = false;
  std::vector<uint32_t> selected_;
};

}  // namespace rlhf
