// Which estimator of a KL divergence: kl.h has the formulas. No tensor here, so that a configuration
// can name it.
#pragma once

namespace rlhf {

enum class KlEstimator { k1, k2, k3 };

}  // namespace rlhf
