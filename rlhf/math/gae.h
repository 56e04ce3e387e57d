// Generalised advantage estimation: how much better each token turned out than the critic expected,
// as one scan from the last token of a completion to its first.
//
//   δ_t = r_t + γ V_{t+1} − V_t,   V behind the last token 0
//   A_t = δ_t + γλ A_{t+1}
//   R_t = A_t + V_t                the critic's target, of advantages that are not yet whitened
//
//   | symbol | parameter    | range                                                         |
//   |--------|--------------|---------------------------------------------------------------|
//   | γ      | gamma        | in [0, 1]; 1                                                  |
//   | λ      | lam          | in [0, 1]; 0.95. 1: Monte Carlo, R_t = Σ_{s≥t} γ^{s−t} r_s;   |
//   |        |              | 0: one step, R_t = r_t + γ V_{t+1}                            |
//   | r      | rewards      | math/token_rewards.h                                          |
//   | V      | values       | of the critic as it stood when the tokens were drawn          |
//
// Whitening A over the batch is a step of its own, whitened() in whiten.h.
//
// Source: Schulman et al. (arXiv 1506.02438), eq. 16; for language models Stiennon et al. (arXiv
// 2009.01325) and Ouyang et al. (arXiv 2203.02155).
//
// Worked case: γ = 1, λ = ½, r = (0, 1), V = (¼, ½): δ = (¼, ½), A = (½, ½), R = (¾, 1).
//
// Departures: rows are ragged. TRL pads, and keeps one place behind the stop token where the critic
// is asked once more and the score stands; here the last token is the last place, and V behind it
// is 0. The same on rows that no stop ends.
#pragma once

#include "rlhf/math/token_advantages.h"

namespace rlhf {

struct Gae {
  TokenValues advantages;  ///< A
  TokenValues returns;     ///< R
};

/// `rewards` and `values` give one number a token. A completion whose entry in `scores` is none has
/// advantages of 0 and its values as returns: the policy learns nothing from it, and the critic is
/// held at the values it had. Error where shapes do not fit, or γ or λ is out of range.
Gae gae(const TokenValues& rewards, const TokenValues& values,
        std::span<const std::optional<double>> scores, double gamma = 1.0, double lam = 0.95);

}  // namespace rlhf
