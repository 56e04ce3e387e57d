#include "rlhf/text/tokenizer.h"

#include <algorithm>

#include "rlhf/core/threads.h"
#include "rlhf/text/byte_level.h"
#include "rlhf/text/tokenizer_impl.h"
#include "rlhf/text/unicode.h"

namespace rlhf {

std::unique_ptr<EncodeWorkspace> WorkspacePool::take() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) {
    return std::make_unique<EncodeWorkspace>();
  }
  std::unique_ptr<EncodeWorkspace> last = std::move(free_.back());
  free_.pop_back();
  return last;
}

void WorkspacePool::give_back(std::unique_ptr<EncodeWorkspace> workspace) {
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(workspace));
}

std::string_view Tokenizer::Impl::token(int32_t id, bool* known) const {
  const std::string* const one = added.text(id);
  *known = one != nullptr || model->contains(id);
  return one != nullptr ? std::string_view(*one) : model->text(id);
}

std::optional<int32_t> Tokenizer::Impl::id(std::string_view token) const {
  int32_t found = added.find(token);
  found = found >= 0 ? found : model->find(token);
  return found >= 0 ? std::optional<int32_t>(found) : std::nullopt;
}

std::string Tokenizer::Impl::named_token(std::string_view name) const {
  const auto found = names.find(name);
  return found == names.end() ? std::string() : found->second;
}

std::optional<int32_t> Tokenizer::Impl::named_id(std::string_view name) const {
  const auto found = names.find(name);
  return found == names.end() ? std::nullopt : id(found->second);
}

void Tokenizer::Impl::encode_piece(std::string_view piece, EncodeWorkspace& work,
                                   std::vector<int32_t>& out) const {
  if (piece.size() > WordCache::kLongest) {
    model->encode(piece, work.scratch, out);
    return;
  }
  const uint64_t hash = hash_bytes(piece);
  size_t count = 0;
  if (const int32_t* const known = work.cache.find(piece, hash, &count)) {
    out.insert(out.end(), known, known + count);
    return;
  }
  const size_t before = out.size();
  model->encode(piece, work.scratch, out);
  work.cache.add(piece, hash, std::span(out).subspan(before));
}

/// The text between added tokens that are looked for in the raw text.
void Tokenizer::Impl::encode_gap(std::string_view gap, bool at_start, EncodeWorkspace& work,
                                 std::vector<int32_t>& out) const {
  if (normalizer != nullptr) {
    work.normalized = gap;
    normalizer->apply(work.normalized, &at_start);
    gap = work.normalized;
  }
  work.spans.clear();
  added.split(gap, /*normalized=*/true, work.spans);
  for (const AddedTokens::Span& span : work.spans) {
    if (span.id >= 0) {
      out.push_back(span.id);
      continue;
    }
    work.tokens.reset(gap.substr(span.begin, span.end - span.begin), at_start && span.begin == 0);
    for (const auto& stage : stages) {
      stage->apply(work.tokens);
    }
    for (const Piece& piece : work.tokens.pieces) {
      encode_piece(work.tokens.piece(piece), work, out);
    }
  }
}

void Tokenizer::Impl::encode(std::string_view text, bool add_special_tokens, EncodeWorkspace& work,
                             std::vector<int32_t>& out) const {
  if (const size_t at = invalid_utf8_at(text); at != std::string_view::npos) {
    throw UserError("tokenizer", fmt::format("text must be valid UTF-8; byte {} (0x{:02x}) is not.",
                                             at, static_cast<unsigned char>(text[at])));
  }
  work.raw_spans.clear();
  added.split(text, /*normalized=*/false, work.raw_spans);
  for (const AddedTokens::Span& span : work.raw_spans) {
    if (span.id >= 0) {
      out.push_back(span.id);
    } else {
      encode_gap(text.substr(span.begin, span.end - span.begin), span.begin == 0, work, out);
    }
  }
  if (add_special_tokens) {
    post_processor.apply(out);
  }
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  WorkspacePool::Loan work(impl_->pool);
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 8);
  impl_->encode(text, add_special_tokens, *work, ids);
  return ids;
}

std::vector<std::vector<int32_t>> Tokenizer::encode_batch(std::span<const std::string> texts,
                                                          bool add_special_tokens) const {
  const auto n = static_cast<int64_t>(texts.size());
  const int64_t grain = std::clamp<int64_t>(n / (8 * worker_threads()), 1, 256);
  std::vector<std::vector<int32_t>> all(texts.size());
  parallel_pieces(n, grain, [&](int64_t begin, int64_t end) {
    WorkspacePool::Loan work(impl_->pool);
    std::vector<int32_t> ids;
    for (int64_t i = begin; i < end; ++i) {
      const auto row = static_cast<size_t>(i);
      ids.clear();
      impl_->encode(texts[row], add_special_tokens, *work, ids);
      all[row] = ids;
    }
  });
  return all;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  std::string bytes;
  const bool byte_level = impl_->decoder.streaming() == Decoder::Streaming::bytes;
  for (const int32_t id : ids) {
    bool known = false;
    const std::string_view token = impl_->token(id, &known);
    if (!known || (skip_special_tokens && impl_->added.is_special(token))) {
      continue;
    }
    if (byte_level) {
      append_from_byte_level(bytes, token);
    } else {
      tokens.emplace_back(token);
    }
  }
  return byte_level ? replace_invalid_utf8(bytes) : impl_->decoder.decode(std::move(tokens));
}

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  return impl_->id(token);
}

std::string Tokenizer::id_to_token(int32_t id) const {
  bool known = false;
  return std::string(impl_->token(id, &known));
}

bool Tokenizer::has_token(int32_t id) const {
  bool known = false;
  impl_->token(id, &known);
  return known;
}

int64_t Tokenizer::vocab_size() const {
  return std::max(impl_->model->id_bound(), impl_->added.id_bound());
}

bool Tokenizer::is_special(int32_t id) const {
  const AddedToken* const token = impl_->added.find(id);
  return token != nullptr && impl_->added.is_special(token->content);
}

std::optional<int32_t> Tokenizer::bos_id() const { return impl_->named_id("bos_token"); }
std::optional<int32_t> Tokenizer::eos_id() const { return impl_->named_id("eos_token"); }
std::optional<int32_t> Tokenizer::pad_id() const { return impl_->named_id("pad_token"); }
std::optional<int32_t> Tokenizer::unk_id() const { return impl_->named_id("unk_token"); }
std::string Tokenizer::bos_token() const { return impl_->named_token("bos_token"); }
std::string Tokenizer::eos_token() const { return impl_->named_token("eos_token"); }
std::string Tokenizer::pad_token() const { return impl_->named_token("pad_token"); }
std::string Tokenizer::unk_token() const { return impl_->named_token("unk_token"); }
std::string Tokenizer::chat_template() const { return impl_->chat_template; }
const Json& Tokenizer::config() const { return impl_->config; }

StreamDecoder::StreamDecoder(Tokenizer tokenizer, bool skip_special_tokens)
    : tokenizer_(std::move(tokenizer)), skip_special_(skip_special_tokens) {}

std::string StreamDecoder::push(int32_t id) {
  bool known = false;
  const std::string_view token = tokenizer_.impl_->token(id, &known);
  if (!known || (skip_special_ && tokenizer_.impl_->added.is_special(token))) {
    return "";
  }
  switch (tokenizer_.impl_->decoder.streaming()) {
    case Decoder::Streaming::bytes:
      return push_bytes(token);
    case Decoder::Streaming::window:
      return push_window(id, token);
    case Decoder::Streaming::whole:
      window_.push_back(id);
      break;
  }
  return "";
}

std::string StreamDecoder::push_bytes(std::string_view token) {
  append_from_byte_level(bytes_, token);
  const size_t ready = bytes_.size() - incomplete_utf8_tail(bytes_);
  std::string out = replace_invalid_utf8(std::string_view(bytes_).substr(0, ready));
  bytes_.erase(0, ready);
  return out;
}

std::string StreamDecoder::push_window(int32_t id, std::string_view token) {
  window_.push_back(id);
  if (tokenizer_.impl_->decoder.has_byte_fallback() && fallback_byte(token) >= 0) {
    return "";
  }
  std::string out = tokenizer_.decode(window_, /*skip_special_tokens=*/false).substr(given_.size());
  window_ = {id};
  given_ = tokenizer_.decode(window_, /*skip_special_tokens=*/false);
  return out;
}

std::string StreamDecoder::flush() {
  std::string out = tokenizer_.decode(window_, /*skip_special_tokens=*/false).substr(given_.size());
  out += replace_invalid_utf8(bytes_);
  window_.clear();
  given_.clear();
  bytes_.clear();
  return out;
}

}  // namespace rlhf
