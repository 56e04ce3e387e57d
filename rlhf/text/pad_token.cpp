#include "rlhf/text/pad_token.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <set>
#include <span>
#include <string_view>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

/// `eos_token_id` of config.json: a number, a list or nothing.
void add_eos_ids(const Json& config, std::set<int64_t>& ids) {
  const auto found = config.find("eos_token_id");
  if (found == config.end()) return;
  for (const Json& id : found->is_array() ? *found : Json::array({*found})) {
    if (id.is_number_integer()) ids.insert(id.get<int64_t>());
  }
}

bool names_any(std::string text, std::span<const std::string_view> parts) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return std::any_of(parts.begin(), parts.end(),
                     [&](std::string_view part) { return text.find(part) != std::string::npos; });
}

/// One choice of a pad among the tokens of a vocabulary.
class PadChoice {
 public:
  PadChoice(const Tokenizer& tokenizer, const Json& model_config, const PadRequest& request)
      : tokenizer_(tokenizer),
        stops_(request.stop_ids.begin(), request.stop_ids.end()),
        vocab_(tokenizer.vocab_size()) {
    if (const auto eos = tokenizer.eos_id()) stops_.insert(*eos);
    if (!model_config.is_object()) return;
    add_eos_ids(model_config, stops_);
    vocab_ = std::min(vocab_, integer(model_config, "vocab_size").value_or(vocab_));
    config_pad_ = integer(model_config, "pad_token_id");
  }

  PadToken asked_for(const std::string& text) const {
    const auto id = tokenizer_.token_to_id(text);
    if (!id || *id >= vocab_) {
      throw UserError("pad_token",
                      fmt::format("a token of the vocabulary was expected, got '{}'.", text));
    }
    if (ends_rows(*id)) {
      throw UserError("pad_token",
                      fmt::format("a token that ends no text was expected, got '{}'.", text),
                      "transformers would read a reward model's score one token early.");
    }
    return make(*id, "asked for");
  }

  std::optional<PadToken> named() const {
    if (const auto id = tokenizer_.pad_id(); id && usable(*id)) return make(*id, "the tokenizer's");
    if (config_pad_ && usable(*config_pad_))
      return make(*config_pad_, "pad_token_id of config.json");
    return std::nullopt;
  }

  std::optional<PadToken> found() const {
    constexpr std::array<std::string_view, 1> kPads = {"pad"};
    constexpr std::array<std::string_view, 3> kSpares = {"reserved", "unused", "placeholder"};
    const std::vector<int32_t> spare = spare_tokens();
    const auto pick = [&](const auto& wanted, const char* reason) -> std::optional<PadToken> {
      const auto it = std::find_if(spare.begin(), spare.end(), wanted);
      return it == spare.end() ? std::nullopt : std::optional(make(*it, reason));
    };
    const auto names = [&](std::span<const std::string_view> parts) {
      return [this, parts](int32_t id) { return names_any(tokenizer_.id_to_token(id), parts); };
    };
    if (auto token = pick(names(kPads), "named for padding")) return token;
    if (auto token = pick(names(kSpares), "reserved for any use")) return token;
    const auto unknown = tokenizer_.unk_id();
    if (auto token = pick([&](int32_t id) { return id == unknown; }, "the unknown token")) {
      return token;
    }
    return pick([](int32_t) { return true; }, "a special token that texts do not hold");
  }

 private:
  static std::optional<int64_t> integer(const Json& config, const char* key) {
    const auto it = config.find(key);
    if (it == config.end() || !it->is_number_integer()) return std::nullopt;
    return it->get<int64_t>();
  }

  bool ends_rows(int64_t id) const { return stops_.contains(id); }

  bool usable(int64_t id) const {
    return id >= 0 && id < vocab_ && !ends_rows(id) &&
           !tokenizer_.id_to_token(static_cast<int32_t>(id)).empty();
  }

  std::vector<int32_t> spare_tokens() const {
    const std::string chat = tokenizer_.chat_template();
    std::vector<int32_t> spare;
    for (int32_t id = 0; id < vocab_; ++id) {
      if (!tokenizer_.is_special(id) || !usable(id) || id == tokenizer_.bos_id()) continue;
      if (chat.find(tokenizer_.id_to_token(id)) == std::string::npos) spare.push_back(id);
    }
    return spare;
  }

  PadToken make(int64_t id, const char* reason) const {
    const auto token = static_cast<int32_t>(id);
    return {.id = token,
            .text = tokenizer_.id_to_token(token),
            .replaced = tokenizer_.pad_id() != token,
            .reason = reason};
  }

  const Tokenizer& tokenizer_;
  std::set<int64_t> stops_;
  int64_t vocab_;
  std::optional<int64_t> config_pad_;
};

}  // namespace

PadToken choose_pad_token(const Tokenizer& tokenizer, const Json& model_config,
                          const PadRequest& request) {
  const PadChoice choice(tokenizer, model_config, request);
  if (request.pad_token) return choice.asked_for(*request.pad_token);
  if (auto token = choice.named()) return *token;
  if (auto token = choice.found()) return *token;
  throw UserError("pad_token",
                  "a padding token that ends no text was expected, the vocabulary has no special "
                  "token left for it.",
                  "name a token that no answer ends with by pad_token.");
}

}  // namespace rlhf
