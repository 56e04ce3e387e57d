// The tables of other programs' keys, each in a file of its own: plain data.
#pragma once

#include <span>

namespace rlhf {

/// A key of another program.
struct PeerKey {
  /// As its users write it, with dots between nested keys; `a*` is every key that begins so and has
  /// no row of its own.
  const char* key;
  /// The key here, or several, as `a, b`. ` | ` parts names that commands have instead of each
  /// other, the first that the command at hand reads being meant. Empty: none.
  const char* ours;
  /// What differs, or what to do where there is no key; a clause without a full stop. May be empty
  /// where there is a key.
  const char* how;
};

std::span<const PeerKey> trl_keys();
std::span<const PeerKey> openrlhf_keys();         ///< before version 0.10
std::span<const PeerKey> openrlhf_dotted_keys();  ///< from version 0.10 on
std::span<const PeerKey> llama_factory_keys();
std::span<const PeerKey> verl_keys();
std::span<const PeerKey> torchtune_keys();
/// Keys of training that `rlhf generate`, `score` and `eval` call otherwise. Not of another program.
std::span<const PeerKey> inference_keys();

}  // namespace rlhf
