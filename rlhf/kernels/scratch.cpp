#include "rlhf/kernels/scratch.h"

#include <ATen/ATen.h>
#include <sys/mman.h>

namespace rlhf {

at::Tensor scratch(at::IntArrayRef shape, const at::TensorOptions& options, Pages wanted) {
  const int64_t bytes =
      c10::multiply_integers(shape) * static_cast<int64_t>(options.dtype().itemsize());
  if (bytes < kLeastScratch || !options.device().is_cpu()) return at::empty(shape, options);
  const auto size = static_cast<size_t>(bytes);
  void* pages = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return at::empty(shape, options);  // which says that memory is short
  if (wanted == Pages::huge) ::madvise(pages, size, MADV_HUGEPAGE);
  return at::from_blob(
      pages, shape, [size](void* start) { ::munmap(start, size); }, options);
}

}  // namespace rlhf
