// Large buffers that are needed for a moment.
//
// An allocator that keeps its pages puts other blocks where a large one has been, and the next one of
// another size beside them: a run whose micro-batches differ holds several of them at its peak. Pages
// of a scratch tensor come from the system and go back to it with the tensor. They cost their
// faults, one for 2 MiB where the system has pages of that size: some 10 ms for 100 MiB.
#pragma once

#include <ATen/core/Tensor.h>

namespace rlhf {

/// Bytes from which on a tensor gets pages of its own; smaller ones are the allocator's.
inline constexpr int64_t kLeastScratch = int64_t{8} << 20;

/// Huge pages are cheap for what is filled at once; small ones are taken as they are touched.
enum class Pages { huge, small };

/// at::empty() for what is large and short-lived. On other devices than the CPU at::empty() itself.
at::Tensor scratch(at::IntArrayRef shape, const at::TensorOptions& options,
                   Pages wanted = Pages::huge);

}  // namespace rlhf
