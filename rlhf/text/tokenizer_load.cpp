#include <zlib.h>

#include <algorithm>
#include <array>
#include <utility>

#include "rlhf/core/json_text.h"
#include "rlhf/core/log.h"
#include "rlhf/text/tokenizer_impl.h"
#include "rlhf/text/tokenizer_json.h"
#include "rlhf/text/unicode.h"

namespace rlhf {
namespace {

constexpr std::array<const char*, 7> kNamedTokens = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

constexpr const char* kPlain = "tokenizer.json";
constexpr const char* kZipped = "tokenizer.json.gz";

/// A gzip file's contents.
std::string read_gzip(const fs::path& path) {
  const std::unique_ptr<gzFile_s, decltype(&gzclose)> file(gzopen(path.c_str(), "rb"), &gzclose);
  if (file == nullptr) {
    throw UserError(path.string(), "a readable gzip file was expected.",
                    "check the path and its permissions.");
  }
  std::string out;
  std::vector<char> buffer(1 << 20);
  while (true) {
    const int got = gzread(file.get(), buffer.data(), static_cast<unsigned>(buffer.size()));
    if (got < 0) {
      throw UserError(path.string(), "a complete gzip file was expected, it is damaged or cut off.",
                      "fetch it again.");
    }
    if (got == 0) {
      break;
    }
    out.append(buffer.data(), static_cast<size_t>(got));
  }
  return out;
}

/// A JSON object in `path`; empty where the file is absent.
Json read_optional_object(const fs::path& path, Problems& problems) {
  if (!fs::exists(path)) {
    return Json::object();
  }
  try {
    Json value = parse_json(read_file(path), path.string());
    if (value.is_object()) {
      return value;
    }
    problems.add(path.string(),
                 fmt::format("a JSON object was expected, got {}.", value.type_name()));
  } catch (const UserError& error) {
    problems.add(error);
  }
  return Json::object();
}

/// A named token: a string, or an AddedToken as an object.
std::optional<AddedToken> read_named(const Json& value, const std::string& where,
                                     Problems& problems) {
  if (value.is_null() || (value.is_boolean() && !value.get<bool>())) {
    return std::nullopt;
  }
  if (value.is_string()) {
    AddedToken token;
    token.content = value.get<std::string>();
    token.special = true;
    if (!valid_utf8(token.content)) {
      problems.add(where, "is not valid UTF-8.");
      return std::nullopt;
    }
    return token;
  }
  AddedToken token =
      read_added_token(JsonFields(value, where, problems), /*normalized_by_default=*/true);
  token.special = true;
  return token;
}

/// Tokens of tokenizer_config.json, in the order in which transformers adds them.
class ConfigTokens {
 public:
  ConfigTokens(const Json& config, Tokenizer::Impl& impl, Problems& problems)
      : config_(config), impl_(impl), problems_(problems) {}

  void add_all() {
    add_decoder();
    for (const char* const name : kNamedTokens) {
      if (config_.contains(name)) {
        if (const auto token = read_named(config_[name], where(name), problems_)) {
          impl_.names[name] = token->content;
          add_special(*token, config_[name].is_object());
        }
      }
    }
    // Names of a model's own, such as `image_token`.
    for (const auto& [key, value] : config_.items()) {
      if (key.ends_with("_token") && value.is_string() &&
          std::ranges::find(kNamedTokens, key) == kNamedTokens.end()) {
        add_list_entry(value, key);
      }
    }
    const auto extra = config_.find("extra_special_tokens");
    const bool has_extra = extra != config_.end() && !extra->empty();
    add_list(has_extra ? "extra_special_tokens" : "additional_special_tokens");
  }

 private:
  static std::string where(std::string_view key) {
    return fmt::format("tokenizer_config.json: {}", key);
  }

  void add_decoder() {
    const auto decoder = config_.find("added_tokens_decoder");
    if (decoder == config_.end() || decoder->is_null()) {
      for (const AddedToken& token : impl_.added.all()) {
        by_content_[token.content] = token;
      }
      return;
    }
    const JsonFields fields(*decoder, where("added_tokens_decoder"), problems_);
    if (!decoder->is_object()) {
      return;
    }
    std::vector<std::pair<int64_t, AddedToken>> tokens;
    for (const auto& [key, value] : decoder->items()) {
      const bool digits =
          !key.empty() && key.size() <= 9 &&
          std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
      if (!digits || std::stoll(key) > kMaxTokenId) {
        fields.problem(
            fmt::format("a key must be an id from 0 to {}, got `{}`.", kMaxTokenId, key));
        continue;
      }
      const JsonFields part(value, fmt::format("{}.{}", fields.where(), key), problems_);
      tokens.emplace_back(std::stoll(key), read_added_token(part, /*normalized_by_default=*/true));
    }
    std::stable_sort(tokens.begin(), tokens.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [id, token] : tokens) {
      by_content_[token.content] = token;
      add(token, id);
    }
  }

  void add(const AddedToken& token, int64_t expected) {
    const int32_t id = impl_.added.add(token, *impl_.model);
    if (expected >= 0 && id >= 0 && id != expected) {
      log_warning(
          "[tokenizer_config.json] the added token `{}` should have the id {} and gets {}, for the "
          "ids below it are not all taken. HINT: check that tokenizer.json and "
          "tokenizer_config.json belong together.",
          token.content, expected, id);
    }
  }

  /// A token that is special by its name. Its flags are those of added_tokens_decoder (of
  /// tokenizer.json where there is no such thing), else those that the entry spells out.
  void add_special(AddedToken token, bool has_flags) {
    const auto known = by_content_.find(token.content);
    if (known != by_content_.end()) {
      token = known->second;
      token.special = true;
    } else if (!has_flags) {
      token.normalized = false;
    }
    add(token, -1);
  }

  void add_list_entry(const Json& value, std::string_view key) {
    if (const auto token = read_named(value, where(key), problems_)) {
      add_special(*token, value.is_object());
    }
  }

  void add_list(std::string_view key) {
    const auto list = config_.find(key);
    if (list == config_.end() || list->is_null()) {
      return;
    }
    if (!list->is_array() && !list->is_object()) {
      problems_.add(where(key),
                    fmt::format("must be a list of tokens, got {}.", list->type_name()));
      return;
    }
    for (const Json& one : *list) {
      add_list_entry(one, key);
    }
  }

  const Json& config_;
  Tokenizer::Impl& impl_;
  Problems& problems_;
  std::map<std::string, AddedToken> by_content_;
};

/// The added tokens of tokenizer.json itself.
void add_file_tokens(const TokenizerFile& file, Tokenizer::Impl& impl, Problems& problems) {
  const JsonFields root(file.parts, "tokenizer.json", problems);
  if (root.find("added_tokens") == nullptr) {
    return;
  }
  for (const JsonFields& part : root.list("added_tokens")) {
    const int64_t expected = part.integer("id", -1, 0, kMaxTokenId);
    const int32_t id =
        impl.added.add(read_added_token(part, /*normalized_by_default=*/true), *impl.model);
    if (expected >= 0 && id >= 0 && id != expected) {
      log_warning(
          "[{}] the added token `{}` should have the id {} and gets {}, for the ids below it are "
          "not all taken.",
          part.where(), impl.added.find(id)->content, expected, id);
    }
  }
}

std::string find_chat_template(const TokenizerSurroundings& around, Problems& problems) {
  const auto found = around.config.find("chat_template");
  if (!around.chat_template_file.empty()) {
    return around.chat_template_file;
  }
  if (found == around.config.end() || found->is_null()) {
    return "";
  }
  if (found->is_string()) {
    return found->get<std::string>();
  }
  for (const Json& one : *found) {
    if (one.is_object() && one.value("name", Json()) == "default" &&
        one.value("template", Json()).is_string()) {
      return one["template"].get<std::string>();
    }
  }
  if (!found->is_array()) {
    problems.add("tokenizer_config.json: chat_template",
                 "must be a string or a list of {name, template}.");
  }
  return "";
}

/// Reads the parts other than the model into `impl`.
void read_parts(const JsonFields& root, Tokenizer::Impl& impl) {
  Problems& problems = root.problems();
  if (const Json* const part = root.find("normalizer")) {
    impl.normalizer = make_normalizer(JsonFields(*part, "normalizer", problems));
  }
  if (const Json* const part = root.find("pre_tokenizer")) {
    make_pre_tokenizer(JsonFields(*part, "pre_tokenizer", problems), impl.stages);
  }
  if (const Json* const part = root.find("post_processor")) {
    impl.post_processor = PostProcessor(JsonFields(*part, "post_processor", problems));
  }
  if (const Json* const part = root.find("decoder")) {
    impl.decoder = Decoder(JsonFields(*part, "decoder", problems));
  }
}

}  // namespace

std::shared_ptr<const Tokenizer::Impl> build_tokenizer(TokenizerFile file,
                                                       TokenizerSurroundings around,
                                                       Problems& problems) {
  auto impl = std::make_shared<Tokenizer::Impl>();
  apply_class(rebuilding_class(file, around.config, around.model_type), around.config, file);
  const JsonFields root(file.parts, "tokenizer.json", problems);
  read_parts(root, *impl);
  const Json* const model = root.find("model");
  const bool bpe = model != nullptr && !file.vocab.empty() &&
                   (!model->contains("type") ? !file.merges.empty() : (*model)["type"] == "BPE");
  const bool raw_bytes = bpe && !impl->stages.empty() && impl->stages.back()->maps_bytes();
  if (raw_bytes) {
    impl->stages.pop_back();
  }
  impl->model = make_token_model(file, raw_bytes, problems);
  if (impl->model != nullptr) {
    add_file_tokens(file, *impl, problems);
    ConfigTokens(around.config, *impl, problems).add_all();
    impl->added.build(impl->normalizer.get());
  }
  impl->chat_template = find_chat_template(around, problems);
  impl->config = std::move(around.config);
  problems.throw_if_any();
  return impl;
}

Tokenizer Tokenizer::from_json(const Json& tokenizer, const Json& config) {
  Problems problems;
  TokenizerSurroundings around;
  if (config.is_object()) {
    around.config = config;
  } else if (!config.is_null()) {
    problems.add("tokenizer_config.json", "must be a JSON object.");
  }
  TokenizerFile file = TokenizerFile::from_json(tokenizer, problems);
  return Tokenizer(build_tokenizer(std::move(file), std::move(around), problems));
}

std::string read_tokenizer_json(const fs::path& folder) {
  if (const fs::path plain = folder / kPlain; fs::exists(plain)) return read_file(plain);
  if (const fs::path zipped = folder / kZipped; fs::exists(zipped)) return read_gzip(zipped);
  throw UserError(folder.string(),
                  "a tokenizer.json (or tokenizer.json.gz) was expected, there is no such file.",
                  "where there is only tokenizer.model or vocab.json, load it once with "
                  "transformers' AutoTokenizer and save_pretrained().");
}

Tokenizer Tokenizer::load(const fs::path& folder) {
  const std::string text = read_tokenizer_json(folder);
  Problems problems;
  const fs::path path = folder / (fs::exists(folder / kPlain) ? kPlain : kZipped);
  TokenizerFile file = TokenizerFile::read(text, path.string(), problems);
  TokenizerSurroundings around;
  around.config = read_optional_object(folder / "tokenizer_config.json", problems);
  if (!around.config.contains("added_tokens_decoder")) {
    const Json names = read_optional_object(folder / "special_tokens_map.json", problems);
    for (const auto& [key, value] : names.items()) {
      around.config[key] = value;
    }
  }
  const Json model_config = read_optional_object(folder / "config.json", problems);
  if (model_config.contains("model_type") && model_config["model_type"].is_string()) {
    around.model_type = model_config["model_type"].get<std::string>();
  }
  if (fs::exists(folder / "chat_template.jinja")) {
    around.chat_template_file = read_file(folder / "chat_template.jinja");
  }
  return Tokenizer(build_tokenizer(std::move(file), std::move(around), problems));
}

}  // namespace rlhf
