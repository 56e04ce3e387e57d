// AdamW, SGD and Adafactor over named tensors, with fp32 masters where the weights are narrower.
//
// AdamW: Loshchilov and Hutter (arXiv 1711.05101), as torch.optim.AdamW computes it. In 8 bits:
// Dettmers et al. (arXiv 2110.02861), its moments as codes (kernels/adamw_8bit.h) but for small
// tensors and embeddings, as transformers calls bitsandbytes. SGD: torch.optim.SGD with momentum.
// Adafactor: Shazeer and Stern (arXiv 1804.04235) as transformers calls it (scale_parameter and
// relative_step off). State is named by the tensor's name in the model folder and travels in one
// safetensors file.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "rlhf/core/json.h"
#include "rlhf/models/decoder.h"

namespace rlhf {

enum class OptimizerKind { adamw, sgd, adafactor, adamw_8bit };

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::adamw;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
  double momentum = 0.0;        ///< SGD
  double dampening = 0.0;       ///< SGD
  bool nesterov = false;        ///< SGD
  double clip_threshold = 1.0;  ///< Adafactor: bound on the root mean square of an update
  double decay_rate = -0.8;     ///< Adafactor
  double adafactor_epsilon = 1e-30;
};

/// Whether weight decay acts on a tensor: not on biases, not on norms (transformers' rule).
bool decays(const std::string& tensor_name, int64_t dimensions);

/// Whether AdamW in 8 bits keeps the moments of a tensor as codes: not below 4096 numbers
/// (bitsandbytes' min_8bit_size), not of embeddings of tokens and positions (transformers' rule; why:
/// kernels/adamw_8bit.h). A head tied to the embedding is the embedding.
bool quantises_moments(const std::string& tensor_name, int64_t numbers);

class Optimizer {
 public:
  /// The tensors are the model's own and are changed in place. Those narrower than fp32 get an fp32
  /// master here.
  Optimizer(OptimizerOptions options, std::vector<NamedTensor> tensors);

  /// 2-norm over all gradients, in a fixed order. Tensors without a gradient count as zero.
  double gradient_norm() const;

  /// One update with gradients times `gradient_scale` (the clip coefficient), then drops the
  /// gradients.
  void step(double learning_rate, double gradient_scale = 1.0);

  /// Updates done.
  int64_t steps() const { return steps_; }

  /// Moments and masters by name (`exp_avg.<tensor>`, `master.<tensor>`, …) for a checkpoint. In 8
  /// bits `exp_avg.<tensor>` are codes (uint8), `exp_avg_absmax.<tensor>` the factors of their blocks.
  std::map<std::string, at::Tensor> state() const;
  /// Error when a part is missing, unknown, mis-shaped or of another type.
  void set_state(const std::map<std::string, at::Tensor>& state, int64_t steps);

  /// Makes the masters those of the weights, which were changed from outside; moments stay.
  void follow_weights();

  /// Bytes of moments and masters.
  uint64_t state_bytes() const;

 private:
  struct Slot {
    std::string name;
    at::Tensor weight;
    at::Tensor master{};  // fp32, only where the weight is narrower
    double weight_decay = 0.0;
    std::map<std::string, at::Tensor> moments{};
  };

  void make_moments(Slot& slot) const;
  void update_adamw(Slot& slot, const at::Tensor& gradient, double learning_rate,
                    double scale) const;
  void update_sgd(Slot& slot, at::Tensor gradient, double learning_rate) const;
  void update_adafactor(Slot& slot, const at::Tensor& gradient, double learning_rate) const;

  OptimizerOptions options_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
};

}  // namespace rlhf
