// Keys as other programs write them: what each is called here. One table a program
// (peer_keys_*.cpp); docs/coming-from.md is written from the same tables.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/config/peer_keys.h"
#include "rlhf/core/config_node.h"
#include "rlhf/core/error.h"
#include "rlhf/core/options.h"

namespace rlhf {

/// A program whose keys are known. A table has each key once.
struct Peer {
  const char* name;
  const char* heading;   ///< of its table
  const char* commands;  ///< how its commands are called here, as Markdown
  std::span<const PeerKey> keys;
};

/// In the order of docs/coming-from.md.
std::span<const Peer> peers();

/// The alternatives of PeerKey::ours, each a list of keys.
std::vector<std::vector<std::string>> alternatives_of(const PeerKey& row);

/// For ArgumentRules::foreign. A key that `set` does not read and another program does: whose it is,
/// and its name here, with the commands that have it where `set` does not. A value that `set` does
/// not take and another command does, as `loss_type: kto` of dpo: that command.
std::optional<Problem> explain_foreign(const OptionSet& set, const std::string& path,
                                       const ConfigNode& value);

}  // namespace rlhf
