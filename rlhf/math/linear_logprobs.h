// From hidden rows to log-probabilities: the only path in this project from a model to a
// likelihood.
//
//   z = softcap(logit_scale · (h Wᵀ + b)) / temperature,   softcap(x) = c·tanh(x / c)
//   log p(target) = z_target − logsumexp(z)
//
// The (R, V) logits never exist as a whole unless a stated budget allows it: rows are taken in
// chunks, logsumexp is accumulated in fp32 (double for double input), and the backward is written
// by hand: dz_v = g_R · (1[v = target] − p_v) (+ the entropy's term), then through soft-cap, scale
// and the matmul.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace rlhf {

/// The last layer of a model as data: what a row of the architecture table and the weights say.
struct Head {
  at::Tensor weight;         ///< (V, C); the embedding itself where tied
  at::Tensor bias = {};      ///< (V) or undefined
  double logit_scale = 1.0;  ///< factor on the logits (granite: 1 / logits_scaling)
  double softcap = 0.0;      ///< final soft-cap (gemma2), 0 for none
};

/// The scratch memory of a call stays under this, unless one row of logits is larger. 320 rows of
/// the largest vocabularies (262144), 552 of qwen's, 1706 of 49152. linear_supervised_loss() takes
/// 384 rows at most: measured no slower (docs/negative-results.md).
inline constexpr int64_t kHeadBufferBytes = int64_t{320} << 20;

struct LogprobOptions {
  double temperature = 1.0;
  bool entropy = false;     ///< also the entropy of each row, in nats
  bool top1 = false;        ///< also whether the target is the most likely token
  bool collision = false;   ///< also log Σ_v p_v² of each row (linear_logprobs only)
  bool mean_logit = false;  ///< also the mean of z over the vocabulary (linear_logprobs only)
  bool entropy_grad =
      false;  ///< the entropy is differentiable (an entropy bonus); else it carries no gradient
  int64_t chunk_rows = 0;  ///< rows a chunk, 0: see kHeadBufferBytes
  int64_t keep_logits_bytes =
      0;  ///< logits up to this size are kept for the backward; above, recomputed
};

struct RowLogprobs {
  at::Tensor logprobs;  ///< (R), fp32 or double; never above 0
  at::Tensor entropy;   ///< (R) if asked for
  at::Tensor top1;      ///< (R) bool if asked for
  /// (R) if asked for, no gradient: log Σ_v p_v², by which WPO aligns its weights (Zhou et al.,
  /// arXiv 2406.11827).
  at::Tensor log_collision;
  at::Tensor mean_logit;  ///< (R) if asked for, no gradient
};

/// hidden (R, C), targets (R) int64. Differentiable in hidden, weight and bias, whichever require
/// it. With a frozen head the forward keeps the expected embedding (R, C) and the backward costs no
/// matmul.
RowLogprobs linear_logprobs(const at::Tensor& hidden, const Head& head, const at::Tensor& targets,
                            const LogprobOptions& options = {});

/// What supervised fine-tuning needs, in one pass: the coefficient of every row is known
/// beforehand, so the gradient is made in the forward pass, chunk by chunk in one reused buffer.
enum class RowObjective {
  nll,  ///< −log p
  dft,  ///< −sg(p)·log p (Wu et al., arXiv 2508.05629)
};

struct SupervisedLoss {
  at::Tensor loss;  ///< scalar: Σ_r coefficient_r · objective_r; backward() gives hidden, weight
                    ///< and bias gradients
  at::Tensor logprobs;  ///< (R), no gradient
  at::Tensor entropy;   ///< (R), no gradient, if asked for
  at::Tensor top1;      ///< (R) bool, if asked for
};

/// `coefficients` (R) is the weight of each row, as a rule 1 / (supervised tokens of the step).
/// `label_smoothing` ε mixes the loss with the mean over the vocabulary: (1 − ε)·nll +
/// ε·mean_v(−log p_v) (transformers' LabelSmoother); nll only.
/// In a DirectGradients (kernels/weight_gradient.h) that is open already, the weight's gradient is
/// added to a .grad that is there as it is made, V·C numbers less to hold: who opens one promises one
/// backward() of this very loss. Error where another factor or a second one comes.
SupervisedLoss linear_supervised_loss(const at::Tensor& hidden, const Head& head,
                                      const at::Tensor& targets, const at::Tensor& coefficients,
                                      RowObjective objective, double label_smoothing = 0.0,
                                      const LogprobOptions& options = {});

namespace reference {
/// Full logits in plain torch, differentiated by autograd: oracle and fallback.
RowLogprobs linear_logprobs(const at::Tensor& hidden, const Head& head, const at::Tensor& targets,
                            const LogprobOptions& options = {});
SupervisedLoss linear_supervised_loss(const at::Tensor& hidden, const Head& head,
                                      const at::Tensor& targets, const at::Tensor& coefficients,
                                      RowObjective objective, double label_smoothing = 0.0,
                                      const LogprobOptions& options = {});
/// The logits themselves, (R, V), before any temperature: generation's and the tests'.
at::Tensor logits(const at::Tensor& hidden, const Head& head);
}  // namespace reference

}  // namespace rlhf
