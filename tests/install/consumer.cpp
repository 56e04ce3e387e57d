// Scores a row with a model of random weights through the installed library.
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <rlhf/math/linear_logprobs.h>
#include <rlhf/models/decoder.h>
#include <rlhf/nn/packed_batch.h>

int main() {
  rlhf::Problems problems;
  const auto config = rlhf::read_config({{"model_type", "llama"},
                                         {"vocab_size", 11},
                                         {"hidden_size", 8},
                                         {"intermediate_size", 16},
                                         {"num_hidden_layers", 1},
                                         {"num_attention_heads", 2},
                                         {"num_key_value_heads", 2},
                                         {"max_position_embeddings", 16},
                                         {"rms_norm_eps", 1e-5}},
                                        "inline", problems);
  problems.throw_if_any();
  const auto model = rlhf::Decoder::random(config, /*seed=*/1, at::kFloat, at::kCPU);
  const std::vector<int32_t> ids = {1, 2, 3, 4};
  const std::vector<uint8_t> supervised = {0, 1, 1, 1};
  const std::vector<rlhf::PackRow> rows = {{.ids = ids, .supervised = supervised, .row = 0}};
  const auto batch = rlhf::batch_rows(rows);
  rlhf::PackedAttention attention(batch.segments);
  const at::NoGradGuard no_grad;
  const auto hidden = model.forward(batch.ids, batch.positions, attention, batch.rows);
  const double sum =
      rlhf::linear_logprobs(hidden, model.head(), batch.targets).logprobs.sum().item<double>();
  fmt::print("log-probability {:.4f}\n", sum);
  return sum < 0.0 ? 0 : 1;
}
