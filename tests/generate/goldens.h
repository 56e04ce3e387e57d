// tests/fixtures/generate/goldens.json.gz (tools/make_generate_goldens.py), and the tiny models it
// was made from.
#pragma once

#include "../models/cases.h"

namespace rlhf::testing {

inline const Json& goldens() {
  static const Json all = [] {
    const std::string path = std::string(RLHF_FIXTURES) + "/generate/goldens.json.gz";
    gzFile file = gzopen(path.c_str(), "rb");
    if (file == nullptr) throw std::runtime_error("cannot open " + path);
    std::string text;
    std::vector<char> piece(1 << 16);
    int got = 0;
    while ((got = gzread(file, piece.data(), static_cast<unsigned>(piece.size()))) > 0) {
      text.append(piece.data(), static_cast<size_t>(got));
    }
    gzclose(file);
    return Json::parse(text);
  }();
  return all;
}

}  // namespace rlhf::testing
