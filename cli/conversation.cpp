#include "cli/conversation.h"

#include <algorithm>
#include <chrono>

#include "rlhf/core/error.h"
#include "rlhf/core/file.h"
#include "rlhf/core/log.h"
#include "rlhf/core/utf8.h"
#include "rlhf/generate/kv_cache.h"
#include "rlhf/text/stop_strings.h"

namespace rlhf::cli {
namespace {

constexpr const char* kWhere = "chat";

const Tokenizer& tokenizer_of(const LoadedModel& loaded) {
  if (!loaded.text) {
    throw UserError(kWhere, "a tokenizer was expected in the model folder.",
                    "copy tokenizer.json into it.");
  }
  return loaded.text->tokenizer;
}

const ChatTemplate* chat_of(const LoadedModel& loaded) {
  if (loaded.chat() != nullptr) return loaded.chat();
  throw UserError(kWhere, "a model with a chat template was expected, its tokenizer has none.",
                  "give one by --chat_template_path, or continue plain text with rlhf generate.");
}

EncodeOptions encode_options_of(const ConversationOptions& options) {
  EncodeOptions encode;
  if (!options.chat_template_kwargs.is_null())
    encode.chat_template_kwargs = options.chat_template_kwargs;
  return encode;
}

Json message(const char* role, const std::string& content) {
  return {{"role", role}, {"content", content}};
}

/// Tokens that fit into the memory for keys and values.
int64_t cache_tokens(const Decoder& decoder, double gib) {
  const int64_t block = KvCache::block_bytes(decoder.config(), decoder.dtype());
  const int64_t blocks = static_cast<int64_t>(gib * 1073741824.0) / block;
  if (blocks > 0) return blocks * simd::kBlockTokens;
  throw UserError(
      "--cache_gib",
      fmt::format("at least {} bytes for {} tokens were expected.", block, simd::kBlockTokens),
      "raise it.");
}

double seconds_between(std::chrono::steady_clock::time_point begin,
                       std::chrono::steady_clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

}  // namespace

Conversation::Conversation(const LoadedModel& loaded, ConversationOptions options)
    : loaded_(loaded),
      options_(std::move(options)),
      encoder_(tokenizer_of(loaded), chat_of(loaded), encode_options_of(options_)),
      stop_ids_(loaded.stop_ids) {
  set_system(options_.system);
  const Decoder& decoder = loaded.model.decoder;
  const int64_t fits = cache_tokens(decoder, options_.flags.cache_gib);
  const int64_t context = decoder.config().context;  // 0: the configuration does not say
  const bool bounded = context > 0 && context <= fits;
  limit_ = bounded ? "the model's context" : "--cache_gib";
  session_.emplace(decoder, bounded ? context : fits);
  stop_at_end_of_turn();
}

/// The template's end of turn stops an answer, also where no configuration file of the model names
/// it.
void Conversation::stop_at_end_of_turn() {
  ChatInput input{};
  input.messages = Json::array({message("user", "a"), message("assistant", "b")});
  input.variables = encoder_.options().chat_template_kwargs;
  std::vector<int32_t> turn;
  try {
    const RenderedChat chat = loaded_.chat()->render_with_spans(input);
    if (chat.assistant.empty()) return;
    const TextSpan span = chat.assistant.back();
    turn = encoder_.continuation(
        std::string_view(chat.text).substr(span.begin, span.end - span.begin));
  } catch (const UserError&) {
    return;  // a template that does not tell who speaks
  }
  const Tokenizer& tokenizer = loaded_.text->tokenizer;
  if (turn.empty() || !tokenizer.is_special(turn.back()) ||
      std::find(stop_ids_.begin(), stop_ids_.end(), turn.back()) != stop_ids_.end()) {
    return;
  }
  stop_ids_.push_back(turn.back());
  log_warning(
      "[{}] the template ends a turn with {}, which the model's eos_token_id does not name: "
      "answers "
      "end there here, not in rlhf generate and not in training. HINT: add {} to eos_token_id in "
      "generation_config.json.",
      kWhere, tokenizer.id_to_token(turn.back()), turn.back());
}

Json Conversation::messages() const {
  Json all = Json::array();
  if (options_.system) all.push_back(message("system", *options_.system));
  for (const Json& turn : turns_) all.push_back(turn);
  return all;
}

std::vector<int32_t> Conversation::encode(const Json& conversation) const {
  const Record record{.row = {{"prompt", conversation}}, .where = kWhere};
  return encoder_.prompt(record, {RowType::prompt_only, RowForm::messages});
}

void Conversation::set_system(std::optional<std::string> text) {
  if (text) {
    if (!valid_utf8(*text)) throw UserError(kWhere, "UTF-8 was expected in the system text.");
    encode(
        Json::array({message("system", *text), message("user", "a")}));  // the template may refuse
  }
  options_.system = std::move(text);
}

void Conversation::reset() {
  turns_ = Json::array();
  cut_.clear();
  retries_ = 0;
}

Answer Conversation::ask(const std::string& text, const OnText& on_text,
                         const ShouldStop& should_stop) {
  if (!valid_utf8(text)) {
    throw UserError(kWhere, "UTF-8 was expected, got other bytes.",
                    "set the terminal to UTF-8, or convert the file.");
  }
  const uint64_t retries = std::exchange(retries_, 0);
  const Json before = turns_;
  turns_.push_back(message("user", text));
  try {
    const Answer found = answer(on_text, should_stop);
    if (has_answer()) return found;
    turns_ = before;
    retries_ = retries;
    return found;
  } catch (...) {
    turns_ = before;
    retries_ = retries;
    throw;
  }
}

Answer Conversation::retry(const OnText& on_text, const ShouldStop& should_stop) {
  if (!has_answer())
    throw UserError(kWhere, "an answer to draw again was expected, there is none.");
  const Json before = turns_;
  const std::vector<bool> cut = cut_;
  turns_.erase(turns_.size() - 1);
  cut_.pop_back();
  ++retries_;
  const auto restore = [&] {
    turns_ = before;
    cut_ = cut;
  };
  try {
    const Answer found = answer(on_text, should_stop);
    if (!has_answer()) restore();
    return found;
  } catch (...) {
    restore();
    throw;
  }
}

Answer Conversation::answer(const OnText& on_text, const ShouldStop& should_stop) {
  const Prompt prompt{.ids = encode(messages()), .key = cut_.size(), .where = kWhere};
  Answer found{.prompt_tokens = std::ssize(prompt.ids)};
  SamplingOptions sampling = options_.flags.options;
  sampling.seed = static_cast<uint64_t>(options_.flags.seed);
  sampling.step = retries_;
  sampling.stop_ids = stop_ids_;
  const int64_t left = room() - found.prompt_tokens;
  if (left < 1) {
    throw UserError(kWhere,
                    fmt::format("the conversation would take {} tokens with this turn, {} has room "
                                "for {}: the turn was left out.",
                                found.prompt_tokens, limit_, room()),
                    "/reset begins anew; /save FILE keeps what was said.");
  }
  const bool short_of_room = left < sampling.max_new_tokens;
  sampling.max_new_tokens = std::min(sampling.max_new_tokens, left);

  StopStrings text(loaded_.text->tokenizer, options_.flags.stop);
  std::string content;
  const auto show = [&](const std::string& piece) {
    if (piece.empty()) return;
    content += piece;
    on_text(piece);
  };
  const auto start = std::chrono::steady_clock::now();
  auto first = start;
  auto last = start;
  GenerateCallbacks callbacks;
  callbacks.should_stop = should_stop;
  callbacks.on_token = [&](const TokenEvent& event) {
    last = std::chrono::steady_clock::now();
    if (++found.tokens == 1) first = last;
    const int32_t id = event.ids.back();
    if (std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end()) return true;
    const bool stops = text.push(id);
    show(text.take());
    return stops;
  };
  try {
    const Completion completion = session_->generate(prompt, sampling, callbacks);
    if (completion.finish_reason == FinishReason::length)
      found.end = short_of_room ? Answer::End::context : Answer::End::length;
  } catch (const Interrupted&) {
    found.end = Answer::End::interrupted;
  }
  show(text.rest());
  found.reused_tokens = session_->stats().reused_tokens;
  found.prompt_seconds = seconds_between(start, first);
  found.seconds = seconds_between(first, last);
  if (found.tokens == 0) return found;
  turns_.push_back(message("assistant", content));
  cut_.push_back(found.end != Answer::End::stopped);
  return found;
}

int64_t Conversation::save(const fs::path& file) const {
  if (!has_answer()) {
    throw UserError(kWhere, "a conversation with an answer was expected, there is none to save.");
  }
  if (fs::is_directory(file))
    throw UserError(kWhere, fmt::format("a file was expected, {} is a folder.", file.string()));
  Json row = {{"messages", messages()}};
  if (!encoder_.options().chat_template_kwargs.empty())
    row["chat_template_kwargs"] = encoder_.options().chat_template_kwargs;
  const bool open_line =
      fs::exists(file) && fs::file_size(file) > 0 && !MappedFile(file).text().ends_with('\n');
  append_file(file, (open_line ? "\n" : "") + row.dump() + "\n");
  return std::count(cut_.begin(), cut_.end(), true);
}

}  // namespace rlhf::cli
