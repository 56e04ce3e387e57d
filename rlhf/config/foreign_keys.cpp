#include "rlhf/config/foreign_keys.h"

#include <algorithm>
#include <array>

#include "rlhf/config/commands.h"

namespace rlhf {

namespace {

constexpr std::string_view kAlternative = " | ";

std::vector<std::string> parted(std::string_view text, std::string_view separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(text.size(), end + separator.size()));
  }
  return parts;
}

std::string joined(const std::vector<std::string>& words, std::string_view last) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    text += i == 0 ? "" : i + 1 == words.size() ? std::string(last) : ", ";
    text += words[i];
  }
  return text;
}

/// The row of a key: its own, or else the longest `a.*` that it begins with.
const PeerKey* row_of(std::span<const PeerKey> keys, std::string_view path) {
  const PeerKey* best = nullptr;
  for (const PeerKey& row : keys) {
    const std::string_view key = row.key;
    if (key == path) return &row;
    const bool above = key.ends_with('*') && path.starts_with(key.substr(0, key.size() - 1));
    if (above && (best == nullptr || key.size() > std::string_view(best->key).size())) best = &row;
  }
  return best;
}

bool reads_all(const OptionSet& set, const std::vector<std::string>& names) {
  return std::all_of(names.begin(), names.end(),
                     [&](const auto& name) { return set.find(name) != nullptr; });
}

/// `max_length means that here`, or `beta means that, of dpo, kto`; empty where there is no key.
std::string meaning_of(const PeerKey& row, const OptionSet& set) {
  const auto alternatives = alternatives_of(row);
  if (alternatives.empty()) return "";
  const auto verb = [](const auto& names) { return names.size() == 1 ? "means" : "mean"; };
  for (const auto& names : alternatives) {
    if (reads_all(set, names))
      return fmt::format("{} {} that here", joined(names, " and "), verb(names));
  }
  const auto& names = alternatives.front();
  return fmt::format("{} {} that, of {}", joined(names, " and "), verb(names),
                     commands_with(names.front()));
}

std::string sentence(const std::string& meaning, const std::string& how) {
  return meaning + (meaning.empty() || how.empty() ? "" : ": ") + how + ".";
}

bool has_name_in(const OptionSet& set, const PeerKey& row) {
  const auto alternatives = alternatives_of(row);
  return std::any_of(alternatives.begin(), alternatives.end(),
                     [&](const auto& names) { return reads_all(set, names); });
}

/// A row and whose it is.
struct Owned {
  const char* owner;
  const PeerKey* row;
};

/// What the rows say; once where they mean the same key, each with its owner where they differ.
std::string hint_of(const std::vector<Owned>& rows, const OptionSet& set) {
  std::vector<std::string> meanings;
  std::vector<std::string> hows;
  for (const auto& [owner, row] : rows) {
    if (const auto meaning = meaning_of(*row, set);
        std::find(meanings.begin(), meanings.end(), meaning) == meanings.end())
      meanings.push_back(meaning);
    if (const std::string how = row->how;
        !how.empty() && std::find(hows.begin(), hows.end(), how) == hows.end())
      hows.push_back(how);
  }
  if (meanings.size() == 1 && hows.size() <= 1)
    return sentence(meanings.front(), hows.empty() ? "" : hows.front());
  std::string text = meanings.size() == 1 ? sentence(meanings.front(), "") : "";
  for (const auto& [owner, row] : rows) {
    const std::string own = meanings.size() == 1 ? "" : meaning_of(*row, set);
    if (own.empty() && std::string_view(row->how).empty()) continue;
    text += fmt::format("{}Of {}: {}", text.empty() ? "" : " ", owner, sentence(own, row->how));
  }
  return text;
}

std::optional<Problem> explain_key(const OptionSet& set, const std::string& path) {
  std::vector<Owned> rows;
  std::vector<std::string> owners;
  for (const Peer& peer : peers()) {
    const PeerKey* row = row_of(peer.keys, path);
    if (row == nullptr || std::string_view(row->key) == row->ours) continue;
    rows.push_back({peer.name, row});
    owners.push_back(fmt::format("{}'s", peer.name));
  }
  if (!rows.empty()) {
    return Problem{.where = {},
                   .what = fmt::format("`{}` is {}.", path, joined(owners, " and ")),
                   .hint = hint_of(rows, set)};
  }
  const PeerKey* row = row_of(inference_keys(), path);
  if (row == nullptr || !has_name_in(set, *row)) return std::nullopt;
  return Problem{.where = {},
                 .what = fmt::format("`{}` is a key of training.", path),
                 .hint = sentence(meaning_of(*row, set), row->how)};
}

/// A value that other programs give a key of this name.
struct PeerValue {
  const char* key;
  const char* value;
  const char* hint;
};

constexpr auto kValues = std::to_array<PeerValue>({
    {"loss_type", "kto_pair", "run rlhf kto with unpair: true, which reads pairs."},
    {"advantage_estimator", "gae", "run rlhf ppo, which has a critic."},
    {"advantage_estimator", "group_norm", "run rlhf grpo, where it is the default."},
    {"advantage_estimator", "dr_grpo",
     "run rlhf grpo with loss_type: dr_grpo and scale_rewards: none."},
});

bool takes(const Option& option, const std::string& value) {
  return std::find(option.choices.begin(), option.choices.end(), value) != option.choices.end() ||
         std::any_of(option.spellings.begin(), option.spellings.end(),
                     [&](const auto& spelling) { return spelling.first == value; });
}

std::optional<Problem> explain_value(const Option& option, const std::string& value) {
  if (option.choices.empty() || takes(option, value)) return std::nullopt;
  for (const PeerValue& row : kValues) {
    if (option.name == row.key && value == row.value) {
      return Problem{.where = {},
                     .what = fmt::format("\"{}\" is not a choice of this command.", value),
                     .hint = row.hint};
    }
  }
  std::vector<std::string> names;
  for (const auto& command : training_commands()) {
    const Option* other = command.all->find(option.name);
    if (other != nullptr && takes(*other, value)) names.push_back("rlhf " + command.name);
  }
  if (names.empty()) return std::nullopt;
  return Problem{
      .where = {},
      .what = fmt::format("\"{}\" is not a choice of this command.", value),
      .hint = fmt::format("run {} with {}: {}.", joined(names, " or "), option.name, value)};
}

std::optional<Problem> explain_values(const Option& option, const ConfigNode& node) {
  if (node.kind == ConfigNode::Kind::scalar) return explain_value(option, node.text);
  for (const auto& item : node.items) {
    if (item.kind != ConfigNode::Kind::scalar) continue;
    if (auto problem = explain_value(option, item.text)) return problem;
  }
  return std::nullopt;
}

}  // namespace

std::span<const Peer> peers() {
  static const std::array<Peer, 6> list = {{
      {"TRL", "TRL",
       "`trl sft` and so on are `rlhf sft` and so on; `dpo` has CPO, SimPO and ORPO too, "
       "`kto` has BCO, `ppo` and `prm` are those of TRL 1.12",
       trl_keys()},
      {"OpenRLHF", "OpenRLHF before 0.10",
       "`train_sft` is `rlhf sft`, `train_rm` `rlhf reward`, `train_dpo` `rlhf dpo`, `train_kto` "
       "`rlhf kto`, `train_prm` `rlhf prm`; `train_ppo_ray` is `rlhf ppo` with the estimator gae, "
       "`rlhf rloo` with rloo, reinforce and reinforce_baseline, `rlhf grpo` with group_norm and "
       "dr_grpo",
       openrlhf_keys()},
      {"OpenRLHF", "OpenRLHF from 0.10 on", "as above", openrlhf_dotted_keys()},
      {"LLaMA-Factory", "LLaMA-Factory",
       "`stage: pt` and `sft` are `rlhf sft`, `rm` is `rlhf reward`, `ppo`, `dpo` and `kto` are "
       "`rlhf ppo`, `rlhf dpo` and `rlhf kto`; `export` is `rlhf merge`",
       llama_factory_keys()},
      {"verl", "verl",
       "`main_ppo` is `rlhf ppo` with the estimator gae, `rlhf grpo` with grpo and grpo_passk, "
       "`rlhf rloo` with rloo, reinforce_plus_plus, reinforce_plus_plus_baseline, remax and opo; "
       "`sft_trainer` is `rlhf sft`",
       verl_keys()},
      {"torchtune", "torchtune",
       "`full_finetune_*` and `lora_finetune_*` are `rlhf sft`, `full_dpo_*` and `lora_dpo_*` "
       "`rlhf "
       "dpo`, `ppo_full_finetune_*` `rlhf ppo`, `grpo_full_finetune_*` `rlhf grpo`",
       torchtune_keys()},
  }};
  return list;
}

std::vector<std::vector<std::string>> alternatives_of(const PeerKey& row) {
  std::vector<std::vector<std::string>> alternatives;
  for (const auto& keys : parted(row.ours, kAlternative))
    alternatives.push_back(parted(keys, ", "));
  return alternatives;
}

std::optional<Problem> explain_foreign(const OptionSet& set, const std::string& path,
                                       const ConfigNode& value) {
  const Option* option = set.find(path);
  if (option == nullptr) option = set.find_renamed(path);
  if (option != nullptr) return explain_values(*option, value);
  const InertKey* inert = set.find_inert(path);
  if (inert != nullptr && inert->status != InertKey::Status::elsewhere) return std::nullopt;
  return explain_key(set, path);
}

}  // namespace rlhf
