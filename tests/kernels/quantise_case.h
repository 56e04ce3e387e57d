// What tools/make_quantise_goldens.py recorded.
#pragma once

#include <fstream>

#include "rlhf/core/json.h"

namespace rlhf::testing {

inline const Json& quantise_goldens() {
  static const Json all = [] {
    std::ifstream file(RLHF_FIXTURES "/kernels/quantise.json");
    return Json::parse(file);
  }();
  return all;
}

}  // namespace rlhf::testing
