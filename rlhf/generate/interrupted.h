// Thrown through a draw that was asked to stop before it was done.
#pragma once

#include <exception>

namespace rlhf {

/// No error: GenerateCallbacks::should_stop said so. What was drawn so far is gone.
class Interrupted : public std::exception {
 public:
  const char* what() const noexcept override { return "the draw was interrupted"; }
};

}  // namespace rlhf
