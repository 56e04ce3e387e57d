// Reads fixtures that are kept as gzip files.
#pragma once

#include <zlib.h>

#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>

#include "rlhf/core/json.h"

namespace rlhf {

/// The whole text; throws where the file is missing, damaged or cut off.
inline std::string read_gzip(const std::filesystem::path& path) {
  const std::unique_ptr<gzFile_s, decltype(&gzclose)> file(gzopen(path.c_str(), "rb"), &gzclose);
  if (file == nullptr) throw std::runtime_error("cannot open " + path.string());
  std::string text;
  std::string piece(1 << 16, '\0');
  int got = 0;
  while ((got = gzread(file.get(), piece.data(), static_cast<unsigned>(piece.size()))) > 0) {
    text.append(piece, 0, static_cast<size_t>(got));
  }
  if (got < 0) throw std::runtime_error("damaged gzip file " + path.string());
  return text;
}

inline Json read_gzip_json(const std::filesystem::path& path) {
  return Json::parse(read_gzip(path));
}

}  // namespace rlhf
