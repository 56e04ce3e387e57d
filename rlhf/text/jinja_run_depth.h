// Counts expressions, blocks and calls in progress, so that recursion ends in an error and not in a
// crash.
#pragma once

#include <fmt/format.h>

#include "rlhf/text/jinja_run.h"

namespace rlhf::jinja {

class Run::Depth {
 public:
  explicit Depth(int& depth) : depth_(depth) {
    if (depth_ >= kMaxCallDepth)
      throw Fault{fmt::format("the template calls itself more than {} deep.", kMaxCallDepth), ""};
    ++depth_;
  }
  ~Depth() { --depth_; }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;

 private:
  int& depth_;
};

}  // namespace rlhf::jinja
