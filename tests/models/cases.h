// The tiny models of tools/make_models.py and tools/make_reward_models.py: configurations and what
// transformers says about them, weights by formula.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "rlhf/core/json.h"
#include "rlhf/models/decoder.h"
#include "tests/support/gzip.h"

namespace rlhf::testing {

inline Json read_cases(const std::string& file_name) {
  return read_gzip_json(std::string(RLHF_FIXTURES) + "/models/" + file_name).at("cases");
}

inline const Json& cases() {
  static const Json all = read_cases("cases.json.gz");
  return all;
}

/// Models with a score head.
inline const Json& reward_cases() {
  static const Json all = read_cases("reward_cases.json.gz");
  return all;
}

inline const Json& find_case(const std::string& name) {
  for (const auto* some : {&cases(), &reward_cases()}) {
    for (const auto& one : *some) {
      if (one["name"] == name) return one;
    }
  }
  throw std::runtime_error("no case " + name);
}

/// Element i of a tensor, as in tools/make_models.py.
inline float weight_value(uint64_t name_hash, uint64_t i, double center, double amplitude) {
  uint64_t x = name_hash + (i + 1) * 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  x ^= x >> 31;
  const double uniform = static_cast<double>(x >> 40) / 16777216.0;
  return static_cast<float>(center + amplitude * (2.0 * uniform - 1.0));
}

inline at::Tensor make_weight(const std::string& name, const Json& spec) {
  uint64_t hash = 14695981039346656037ULL;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  auto tensor = at::empty(spec["shape"].get<std::vector<int64_t>>(), at::kFloat);
  auto* values = tensor.data_ptr<float>();
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    values[i] = weight_value(hash, static_cast<uint64_t>(i), spec["center"].get<double>(),
                             spec["amplitude"].get<double>());
  }
  return tensor;
}

inline std::map<std::string, at::Tensor> make_weights(const Json& one,
                                                      at::ScalarType dtype = at::kFloat) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, spec] : one["tensors"].items())
    tensors[name] = make_weight(name, spec).to(dtype);
  return tensors;
}

inline DecoderConfig config_of(const Json& one) {
  Problems problems;
  auto config = read_config(one["config"], one["name"].get<std::string>(), problems);
  problems.throw_if_any();
  return config;
}

inline Decoder make_decoder(const Json& one, at::ScalarType dtype = at::kFloat) {
  return {config_of(one), make_weights(one, dtype)};
}

/// Rows side by side in one batch: what the decoder takes.
struct Rows {
  at::Tensor ids;
  at::Tensor positions;
  SegmentTable segments;
};

inline Rows pack(const std::vector<std::vector<int64_t>>& rows) {
  std::vector<int64_t> ids;
  std::vector<int64_t> positions;
  Rows out;
  for (const auto& row : rows) {
    out.segments.push_back({.begin = std::ssize(ids), .length = std::ssize(row), .prefix = -1});
    for (size_t t = 0; t < row.size(); ++t) {
      ids.push_back(row[t]);
      positions.push_back(static_cast<int64_t>(t));
    }
  }
  out.ids = at::empty({std::ssize(ids)}, at::kLong);
  out.positions = at::empty({std::ssize(ids)}, at::kLong);
  std::copy(ids.begin(), ids.end(), out.ids.data_ptr<int64_t>());
  std::copy(positions.begin(), positions.end(), out.positions.data_ptr<int64_t>());
  return out;
}

/// Log-probabilities of every next token of each row, (length − 1) values a row; the head is
/// written out here so that the test rests on the decoder alone.
inline std::vector<at::Tensor> score(const Decoder& decoder, const Rows& rows,
                                     const ForwardOptions& options = {}) {
  PackedAttention attention(rows.segments);
  const auto hidden = decoder.forward(rows.ids, rows.positions, attention, {}, options);
  const auto head = decoder.head();
  auto logits = at::matmul(hidden, head.weight.t()) * head.logit_scale;
  if (head.softcap > 0.0) logits = (logits / head.softcap).tanh() * head.softcap;
  const auto logprobs = at::log_softmax(logits, -1);
  std::vector<at::Tensor> out;
  for (const auto& segment : rows.segments) {
    const auto own = logprobs.slice(0, segment.begin, segment.begin + segment.length - 1);
    const auto targets = rows.ids.slice(0, segment.begin + 1, segment.begin + segment.length);
    out.push_back(own.gather(1, targets.unsqueeze(1)).squeeze(1));
  }
  return out;
}

inline std::vector<std::vector<int64_t>> ids_of(const Json& one) {
  return one["ids"].get<std::vector<std::vector<int64_t>>>();
}

}  // namespace rlhf::testing
