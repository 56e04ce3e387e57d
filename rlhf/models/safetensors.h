// The safetensors format: eight bytes of header length (little endian), a JSON header, the tensors'
// bytes.
//
// Reading maps the file; a tensor is a view that keeps the map alive. A header is never trusted:
// its length, its nesting, every type, shape and offset are checked before a byte of data is
// touched, and every problem is listed. Format: https://github.com/huggingface/safetensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/models/decoder.h"

namespace rlhf {

/// One tensor as the header describes it; `begin` and `end` count bytes from the start of the data.
struct StoredTensor {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

class SafetensorsFile {
 public:
  /// UserError with every problem: truncated or oversized header, broken or too deep JSON, double
  /// names, unknown types, shapes that overflow or do not fit their bytes, bytes that overlap,
  /// leave gaps or lie outside the file.
  explicit SafetensorsFile(const fs::path& path);

  /// In the order of their bytes.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  /// A read-only view into the map (writing to it is a crash); a copy where the bytes are not
  /// aligned for their type.
  at::Tensor view(const StoredTensor& tensor) const;
  /// The map that views lie in.
  std::weak_ptr<const MappedFile> map() const { return file_; }

 private:
  std::shared_ptr<MappedFile> file_;
  uint64_t data_begin_ = 0;
  std::vector<StoredTensor> tensors_;
};

/// A tensor to be written in `dtype`.
struct TensorToStore {
  std::string name;
  at::Tensor tensor;
  at::ScalarType dtype;

  uint64_t bytes() const;
};

/// Writes one file as the reference library does: wider types first, then by name; metadata
/// {"format": "pt"}. Converts tensor by tensor, so the extra memory is that of one. An older file
/// of that name is replaced, never written into: it may be mapped.
void write_safetensors(const fs::path& path, std::vector<TensorToStore> tensors);

}  // namespace rlhf
