// Rotary position embedding as data: which angles a position is turned by.
//
// A position p turns channel pair c by the angle p · f_c. Plain form: f_c = θ^(−2c/Dr). The scaled
// forms change f, and some multiply cos and sin by a constant; all follow transformers 5
// (modeling_rope_utils.py), computed in fp32 as there:
//
//   linear    f / s                                        (kaiokendev)
//   dynamic   θ grows with the row's length past the trained context   (NTK-aware, bloc97 and
//   emozilla) llama3    f, f / s, or a blend, by wavelength          (Llama 3.1, arXiv 2407.21783)
//   yarn      a ramp between f and f / s, cos and sin times 0.1·ln(s) + 1   (arXiv 2309.00071)
//   longrope  f / short_c or f / long_c, by the row's length (arXiv 2402.13753)
//
// dynamic and longrope depend on the length of a row. Here that is the length of the row alone,
// whatever else is packed beside it: what transformers gives for that row on its own in a fresh
// model (its own frequencies depend on the longest row of a batch and on rows seen before).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace rlhf {

enum class RopeType { plain, linear, dynamic, llama3, yarn, longrope };

struct RopeConfig {
  RopeType type = RopeType::plain;
  double theta = 10000.0;
  int64_t width = 0;              ///< Dr: rotated channels of a head, even; the others pass through
  double factor = 1.0;            ///< s
  int64_t context = 0;            ///< max_position_embeddings
  int64_t original_context = 0;   ///< trained length before scaling: llama3, yarn, longrope
  double attention_factor = 1.0;  ///< factor on cos and sin
  double low_freq_factor = 1.0;   ///< llama3
  double high_freq_factor = 4.0;  ///< llama3
  double beta_fast = 32.0;        ///< yarn
  double beta_slow = 1.0;         ///< yarn
  bool truncate = true;           ///< yarn: the ramp's ends are rounded to whole channels
  std::vector<double> short_factor = {};  ///< longrope, Dr / 2 values
  std::vector<double> long_factor = {};   ///< longrope, Dr / 2 values

  /// The longest row whose frequencies are those of every shorter row; INT64_MAX where length does
  /// not matter. Above it a shared prefix is not exact: the prefix would need each sibling's
  /// frequencies at once.
  int64_t length_limit() const;
};

/// f of a row of `length` tokens: (Dr / 2) fp32.
at::Tensor rope_frequencies(const RopeConfig& config, int64_t length);

struct RopeTables {
  at::Tensor cos;  ///< (T, Dr / 2)
  at::Tensor sin;  ///< (T, Dr / 2)
};

/// positions (T) int64 of a packed batch; the tables are on its device, in `dtype`. A run of
/// positions that go up by one is a row, and its length is its last position plus one.
RopeTables rope_tables(const RopeConfig& config, const at::Tensor& positions, at::ScalarType dtype);

}  // namespace rlhf
