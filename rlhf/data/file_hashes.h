// Content hashes of data files, remembered while the files stay as they are, so that a second start
// does not read them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/core/json.h"

namespace rlhf {

/// What the file system says of a file's content without reading it.
struct FileStamp {
  int64_t size = 0;
  int64_t modified = 0;  ///< nanoseconds since 1970
  uint64_t inode = 0;
  uint64_t device = 0;

  /// UserError when there is no such file.
  static FileStamp of(const fs::path& file);
  Json to_json() const;
  bool operator==(const FileStamp&) const = default;
};

/// Hashes of the content of files. A file that kept its path and stamp since it was last hashed is
/// not read again: the hashes are kept in FOLDER/hashes.json. A file modified within the two
/// seconds before it was hashed is not remembered, since a later change might not show in its
/// stamp.
std::vector<std::string> hash_files(const fs::path& folder, const std::vector<fs::path>& files);

/// Notices when files change while they are read.
class UnchangedFiles {
 public:
  explicit UnchangedFiles(std::vector<fs::path> files);
  /// UserError naming the first file that is not what it was at construction.
  void require() const;

 private:
  std::vector<fs::path> files_;
  std::vector<FileStamp> stamps_;
};

}  // namespace rlhf
