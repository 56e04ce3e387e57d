// tests/fixtures/generate/goldens.json.gz (tools/make_generate_goldens.py), and the tiny models it
// was made from.
#pragma once

#include "../models/cases.h"
#include "tests/support/gzip.h"

namespace rlhf::testing {

inline const Json& goldens() {
  static const Json all = read_gzip_json(std::string(RLHF_FIXTURES) + "/generate/goldens.json.gz");
  return all;
}

}  // namespace rlhf::testing
