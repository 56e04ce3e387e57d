// Gradients of weights, summed in the place where they are kept.
//
// Autograd makes the gradient of every micro-batch in a tensor of its own and then adds that to
// .grad: each weight's numbers pass through memory three times more than the product needs, and a
// tied embedding's V·C numbers lie there twice from the head's backward to the embedding's. Within a
// DirectGradients the product itself adds, and autograd gets nothing to add:
//
//   .grad += dyᵀ x
//
// The first sum into a .grad that is undefined gives the bits of the plain way; later ones round
// once less. Weights that are no leaf (a transposed view) go the plain way.
//
// What autograd does around its own adding does not happen:
//   hooks     of a weight, before its sum or after it, see nothing of what is summed here
//   locks     that let several backwards add to one weight are not taken: one at a time has it
//   threads   the scope is the thread's. On the CPU autograd works on the one that called it, also in
//             the backward within a backward of nn/checkpoint.h. For other devices it has threads of
//             its own, in which no scope is open: all gradients go the plain way there
//   graphs    no gradient of a gradient. With retain_graph a graph may be walked again, but a tensor
//             that it saved and handed over as the first sum (a head's, made in its forward) must be
//             as it was: autograd ends with an error where a sum changed it in between
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace rlhf {

/// Sums directly on this thread, for as long as it lives. Only for a backward() that means to add to
/// .grad: what torch::autograd::grad() is asked for would be missing from its answer. Around a forward
/// pass too it lets a loss that makes its gradient there (math/linear_logprobs.h) add it at once.
class DirectGradients {
 public:
  DirectGradients();
  ~DirectGradients();
  DirectGradients(const DirectGradients&) = delete;
  DirectGradients& operator=(const DirectGradients&) = delete;

 private:
  bool before_;
};

/// loss.backward() within a DirectGradients. What a training step calls.
void backward(const at::Tensor& loss);

/// Whether a gradient of `weight` is summed into its .grad here and now.
bool sums_directly(const at::Tensor& weight);

/// For the backward of a function of `weight`: sums `gradient` (of its shape, or undefined) into .grad
/// and returns an undefined tensor, or returns it where !sums_directly(weight). Who adds to .grad
/// itself has nothing to give here.
at::Tensor weight_gradient(const at::Tensor& weight, const at::Tensor& gradient);
/// The same of the product dyᵀ x: dy (T, N), x (T, C), weight (N, C).
at::Tensor product_gradient(const at::Tensor& weight, const at::Tensor& dy, const at::Tensor& x);

/// How an undefined tensor travels through autograd: its functions take no undefined inputs.
std::optional<at::Tensor> as_optional(const at::Tensor& tensor);

/// x (…, C), weight (N, C), bias (N) or undefined: x weightᵀ + bias, (…, N). Differentiable in all.
at::Tensor linear_map(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {});

/// Rows `ids` (T) of weight (V, C): (T, C). Differentiable in the weight; the row `padding` (negative:
/// none) gets no gradient.
at::Tensor embedding_rows(const at::Tensor& weight, const at::Tensor& ids, int64_t padding);

}  // namespace rlhf
