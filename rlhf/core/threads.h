// Coarse parallel work for the rooms that know no tensor (encoding rows, reading files). Tensor
// code uses at::parallel_for.
#pragma once

#include <cstdint>
#include <functional>

namespace rlhf {

/// Cores this process may use (its affinity mask, not the machine's count).
int available_cores();

/// Threads that coarse work uses; available_cores() until set.
int worker_threads();
void set_worker_threads(int count);

/// Runs fn(begin, end) over [0, n) in pieces of at most `grain`, on up to worker_threads() threads.
/// Pieces are handed out in order, each to one thread; the first exception stops the rest and is
/// thrown again here.
void parallel_pieces(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& fn);

}  // namespace rlhf
