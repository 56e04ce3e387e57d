// Memory for time: keep a block's input, forget what is inside, compute it again in the backward.
//
// Chen et al., "Training deep nets with sublinear memory cost" (arXiv 1604.06174). The second
// computation runs the same operations on the same values, so gradients equal the plain path's bit
// for bit.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace rlhf {

using Block = std::function<at::Tensor(const at::Tensor& x)>;

/// block(x), differentiable in x and in `parameters`: every tensor inside the block that may
/// require a gradient. They need one even where x does not. What the block refers to must live
/// until the backward has run, and its parameters must not change before. No gradient of a
/// gradient.
at::Tensor checkpointed(const Block& block, const at::Tensor& x,
                        const std::vector<at::Tensor>& parameters);

}  // namespace rlhf
