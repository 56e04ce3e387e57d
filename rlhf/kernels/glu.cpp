#include "rlhf/kernels/glu.h"

#include "rlhf/core/error.h"

namespace rlhf {
namespace reference {

torch::Tensor glu(const torch::Tensor& gate, const torch::Tensor& up, GluActivation activation) {
  switch (activation) {
    case GluActivation::silu:
      return torch::silu(gate) * up;
    case GluActivation::gelu_tanh:
      return torch::gelu(gate, "tanh") * up;
    case GluActivation::gelu:
      return torch::gelu(gate) * up;
  }
  fail("glu", "an activation was expected.");
}

}  // namespace reference

torch::Tensor glu(const torch::Tensor& gate, const torch::Tensor& up, GluActivation activation) {
  check(gate.sizes() == up.sizes() && gate.scalar_type() == up.scalar_type(), "glu",
        "gate and up of one shape and type were expected, got {} ({}) and {} ({}).",
        toString(gate.scalar_type()), fmt::join(gate.sizes(), ", "), toString(up.scalar_type()),
        fmt::join(up.sizes(), ", "));
  return reference::glu(gate, up, activation);
}

}  // namespace rlhf
