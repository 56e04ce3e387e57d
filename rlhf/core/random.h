// Counter-based random numbers: a stream is named by what it is for, never by who drew before it.
//
// Philox4x32-10, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011). The same key
// gives the same numbers on every machine and thread; a checkpoint stores no generator state, only
// counters that it has anyway.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

namespace rlhf {

/// One stream, keyed by a seed and what it is for.
class Random {
 public:
  /// `purpose` names the stream, such as {kShuffle, epoch} or {step, prompt, sample}.
  Random(uint64_t seed, std::initializer_list<uint64_t> purpose);

  uint32_t next32();
  uint64_t next64();
  /// In [0, 1), 53 bits.
  double uniform();
  /// Standard normal, by Box and Muller's method.
  double normal();
  /// In [0, bound) without bias; `bound` > 0.
  uint64_t below(uint64_t bound);

 private:
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, 4> block_{};
  unsigned used_ = 4;
};

/// First words of `purpose`, so that no two uses share a stream.
enum RandomPurpose : uint64_t {
  kRandomShuffle = 1,
  kRandomInit = 2,
  kRandomNeftune = 3,
  kRandomSampling = 4,
  kRandomMixture = 5,
  kRandomDropout = 6,
};

}  // namespace rlhf
