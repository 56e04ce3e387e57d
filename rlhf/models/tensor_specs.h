// Which tensors a model has, and whether a folder's tensors are those.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "rlhf/models/arch.h"
#include "rlhf/models/decoder.h"

namespace rlhf {

/// How a tensor starts its life in a model made from scratch.
enum class InitKind { normal, zeros, ones };

/// One tensor that a model of this configuration has.
struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
  InitKind init = InitKind::normal;
  double deviation = 0.0;  ///< of InitKind::normal
  int64_t zero_row = -1;   ///< a row that starts at zero (padding), or -1
};

/// Names as one particular folder uses them.
struct NameStyle {
  bool with_base = true;  ///< false: a folder saved from the bare model, names without `model.`
  bool with_head_alias = false;  ///< the head under its second name
};

/// The style that `names` of a folder are in.
NameStyle name_style(const DecoderConfig& config, const std::map<std::string, at::Tensor>& tensors);

/// Every tensor of the model, in the order of its forward pass; tied weights once.
std::vector<TensorSpec> tensor_specs(const DecoderConfig& config, const NameStyle& style = {});

/// The name that transformers gives a folder's tensor in memory, and PEFT after it: with the base
/// prefix, the head under its present name.
std::string transformers_name(const DecoderConfig& config, const std::string& name);

/// The module of a language model's head under that name.
const char* head_module(const DecoderConfig& config);

/// `(2, 3)`.
std::string shape_text(at::IntArrayRef shape);

/// FNV-1a: names a random stream. It must not change with a library's version.
uint64_t name_hash(std::string_view name);

/// The module that scores rows or tokens in a classifier, `score` as a rule.
const char* score_module(const DecoderConfig& config);

/// Initial values (float32) by the spec. Each tensor has its own random stream, keyed by its name.
at::Tensor initial_tensor(const TensorSpec& spec, uint64_t seed);

/// The tensors that `specs` name, in that order. Missing, unexpected and mis-shaped ones are listed
/// in one UserError; old buffers and a stored head equal to the embedding it is tied to are left
/// out.
std::vector<NamedTensor> match_tensors(const DecoderConfig& config,
                                       const std::vector<TensorSpec>& specs,
                                       const std::map<std::string, at::Tensor>& tensors);

}  // namespace rlhf
