// Tensors whose pages leave memory with them.
#include "rlhf/kernels/scratch.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace rlhf {
namespace {

/// Bytes of this process in memory.
int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t size = 0;
  int64_t resident = 0;
  file >> size >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

TEST(Scratch, HasTheShapeAndTypeAskedFor) {
  for (const int64_t rows : {3, 4096}) {
    for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16}) {
      const auto tensor = scratch({rows, 4097}, at::TensorOptions(type));
      EXPECT_EQ(tensor.sizes(), at::IntArrayRef({rows, 4097}));
      EXPECT_EQ(tensor.scalar_type(), type);
      EXPECT_TRUE(tensor.is_contiguous());
      tensor.fill_(2.0);
      EXPECT_EQ(tensor.max().item<double>(), 2.0);
    }
  }
}

TEST(Scratch, PagesLeaveMemoryWithTheLastView) {
  constexpr int64_t kBytes = int64_t{256} << 20;
  const int64_t before = resident_bytes();
  auto tensor = scratch({kBytes / 4}, at::TensorOptions(at::kFloat)).zero_();
  auto view = tensor.narrow(0, 5, 7);
  tensor.reset();
  // A tenth of it: what else the process may have taken or given back meanwhile.
  EXPECT_GT(resident_bytes(), before + kBytes * 9 / 10);
  view.reset();
  EXPECT_LT(resident_bytes(), before + kBytes / 10);
}

}  // namespace
}  // namespace rlhf
