#include "rlhf/text/bpe.h"

#include <algorithm>
#include <bit>

#include "rlhf/text/byte_level.h"
#include "rlhf/text/unicode.h"

namespace rlhf {
namespace {

/// Up to here the smallest rank is found by looking at all pairs, which beats a heap.
constexpr size_t kShortWord = 48;
constexpr uint32_t kNoMerge = UINT32_MAX;

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

bool later(const ModelScratch::Candidate& a, const ModelScratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

}  // namespace

MergeTable::MergeTable(size_t count)
    : slots_(std::bit_ceil(2 * count + 2), Merge{kFree, 0, 0}),
      shift_(64 - std::countr_zero(slots_.size())) {}

size_t MergeTable::slot(uint64_t pair) const {
  return static_cast<size_t>(((pair ^ (pair >> 29)) * 0x9E3779B97F4A7C15u) >> shift_);
}

void MergeTable::add(int32_t left, int32_t right, uint32_t rank, int32_t id) {
  const uint64_t pair = pair_key(left, right);
  size_t i = slot(pair);
  while (slots_[i].pair != kFree && slots_[i].pair != pair) {
    i = (i + 1) & (slots_.size() - 1);
  }
  slots_[i] = {pair, rank, id};
}

const MergeTable::Merge* MergeTable::find(int32_t left, int32_t right) const {
  const uint64_t pair = pair_key(left, right);
  for (size_t i = slot(pair); slots_[i].pair != kFree; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].pair == pair) {
      return &slots_[i];
    }
  }
  return nullptr;
}

BpeModel::BpeModel(Vocabulary vocabulary, MergeTable merges, Options options)
    : vocabulary_(std::move(vocabulary)), merges_(std::move(merges)), options_(std::move(options)) {
  unknown_ = options_.unknown.empty() ? -1 : vocabulary_.find(options_.unknown);
  every_byte_has_id_ = options_.raw_bytes && options_.prefix.empty() && options_.suffix.empty();
  for (unsigned b = 0; b < 256; ++b) {
    byte_ids_[b] = vocabulary_.find(byte_level_char(static_cast<unsigned char>(b)));
    fallback_ids_[b] = options_.byte_fallback ? vocabulary_.find(fmt::format("<0x{:02X}>", b)) : -1;
    // Bytes that never occur in UTF-8 need no id.
    every_byte_has_id_ &= byte_ids_[b] >= 0 || b == 0xC0 || b == 0xC1 || b > 0xF4;
  }
}

/// Appends the symbol of one character, as written in the vocabulary.
void BpeModel::add_unit(std::string_view unit, bool& pending_unknown,
                        std::vector<int32_t>& ids) const {
  const int32_t id = vocabulary_.find(unit);
  if (id >= 0) {
    if (pending_unknown) {
      ids.push_back(unknown_);
      pending_unknown = false;
    }
    ids.push_back(id);
    return;
  }
  const auto fallback = [&](char c) { return fallback_ids_[static_cast<unsigned char>(c)]; };
  if (options_.byte_fallback &&
      std::all_of(unit.begin(), unit.end(), [&](char c) { return fallback(c) >= 0; })) {
    for (const char c : unit) {
      ids.push_back(fallback(c));
    }
    return;
  }
  if (unknown_ >= 0) {
    if (pending_unknown && !options_.fuse_unknown) {
      ids.push_back(unknown_);
    }
    pending_unknown = true;
  }
}

/// The symbols of `piece` before any merge, into scratch.ids.
void BpeModel::split(std::string_view piece, ModelScratch& scratch) const {
  std::vector<int32_t>& ids = scratch.ids;
  ids.clear();
  if (every_byte_has_id_) {
    for (const char c : piece) {
      ids.push_back(byte_ids_[static_cast<unsigned char>(c)]);
    }
    return;
  }
  bool pending_unknown = false;
  for (size_t at = 0; at < piece.size();) {
    const size_t length =
        options_.raw_bytes ? 1 : utf8_length(static_cast<unsigned char>(piece[at]));
    std::string_view unit = piece.substr(at, length);
    if (options_.raw_bytes) {
      unit = byte_level_char(static_cast<unsigned char>(piece[at]));
    }
    const bool first = at == 0;
    at += length;
    if ((!first && !options_.prefix.empty()) || (at >= piece.size() && !options_.suffix.empty())) {
      scratch.text = first ? "" : options_.prefix;
      scratch.text += unit;
      scratch.text += at >= piece.size() ? options_.suffix : "";
      unit = scratch.text;
    }
    add_unit(unit, pending_unknown, ids);
  }
  if (pending_unknown) {
    ids.push_back(unknown_);
  }
}

void BpeModel::merge_short(std::vector<int32_t>& ids, std::vector<int32_t>& out) const {
  uint32_t ranks[kShortWord];
  int32_t joined[kShortWord];
  size_t n = ids.size();
  const auto look = [&](size_t i) {
    const MergeTable::Merge* const merge = merges_.find(ids[i], ids[i + 1]);
    ranks[i] = merge == nullptr ? kNoMerge : merge->rank;
    joined[i] = merge == nullptr ? -1 : merge->id;
  };
  for (size_t i = 0; i + 1 < n; ++i) {
    look(i);
  }
  while (n > 1) {
    const size_t best = static_cast<size_t>(std::min_element(ranks, ranks + n - 1) - ranks);
    if (ranks[best] == kNoMerge) {
      break;
    }
    ids[best] = joined[best];
    std::copy(ids.begin() + static_cast<ptrdiff_t>(best) + 2,
              ids.begin() + static_cast<ptrdiff_t>(n),
              ids.begin() + static_cast<ptrdiff_t>(best) + 1);
    std::copy(ranks + best + 1, ranks + n - 1, ranks + best);
    std::copy(joined + best + 1, joined + n - 1, joined + best);
    --n;
    if (best > 0) {
      look(best - 1);
    }
    if (best + 1 < n) {
      look(best);
    }
  }
  out.insert(out.end(), ids.begin(), ids.begin() + static_cast<ptrdiff_t>(n));
}

void BpeModel::merge_long(ModelScratch& scratch, std::vector<int32_t>& out) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  const auto n = static_cast<int32_t>(scratch.ids.size());
  symbols.clear();
  heap.clear();
  for (int32_t i = 0; i < n; ++i) {
    symbols.push_back({scratch.ids[static_cast<size_t>(i)], i - 1, i + 1 < n ? i + 1 : -1});
  }
  const auto at = [&](int32_t i) -> ModelScratch::Symbol& {
    return symbols[static_cast<size_t>(i)];
  };
  const auto propose = [&](int32_t i, bool ordered) {
    if (i < 0 || at(i).next < 0) {
      return;
    }
    if (const MergeTable::Merge* const merge = merges_.find(at(i).id, at(at(i).next).id)) {
      heap.push_back({merge->rank, i, merge->id});
      if (ordered) {
        std::push_heap(heap.begin(), heap.end(), later);
      }
    }
  };
  for (int32_t i = 0; i < n; ++i) {
    propose(i, /*ordered=*/false);
  }
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const ModelScratch::Candidate top = heap.back();
    heap.pop_back();
    ModelScratch::Symbol& left = at(top.position);
    if (left.id < 0 || left.next < 0) {
      continue;  // joined into its neighbour, or now the last
    }
    ModelScratch::Symbol& right = at(left.next);
    const MergeTable::Merge* const merge = merges_.find(left.id, right.id);
    if (merge == nullptr || merge->id != top.id) {
      continue;  // one of the two has changed since
    }
    left.id = top.id;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) {
      at(left.next).previous = top.position;
    }
    propose(left.previous, /*ordered=*/true);
    propose(top.position, /*ordered=*/true);
  }
  for (const ModelScratch::Symbol& symbol : symbols) {
    if (symbol.id >= 0) {
      out.push_back(symbol.id);
    }
  }
}

void BpeModel::encode(std::string_view piece, ModelScratch& scratch,
                      std::vector<int32_t>& out) const {
  check(piece.size() < INT32_MAX, "tokenizer", "a piece of {} bytes is too long.", piece.size());
  if (options_.ignore_merges) {
    scratch.text.clear();
    if (options_.raw_bytes) {
      append_byte_level(scratch.text, piece);
    }
    const int32_t id =
        vocabulary_.find(options_.raw_bytes ? std::string_view(scratch.text) : piece);
    if (id >= 0) {
      out.push_back(id);
      return;
    }
  }
  split(piece, scratch);
  if (scratch.ids.size() <= kShortWord) {
    merge_short(scratch.ids, out);
  } else {
    merge_long(scratch, out);
  }
}

std::unique_ptr<TokenModel> make_bpe(const TokenizerFile& file, const JsonFields& model,
                                     bool raw_bytes) {
  Problems& problems = model.problems();
  if (const Json* const dropout = model.find("dropout"); dropout != nullptr && *dropout != 0.0) {
    model.problem(
        fmt::format("`dropout` is {}; encoding must not depend on chance.", dropout->dump()),
        "set it to null.");
  }
  BpeModel::Options options;
  options.unknown = model.text("unk_token");
  options.prefix = model.text("continuing_subword_prefix");
  options.suffix = model.text("end_of_word_suffix");
  options.fuse_unknown = model.boolean("fuse_unk", false);
  options.byte_fallback = model.boolean("byte_fallback", false);
  options.ignore_merges = model.boolean("ignore_merges", false);
  options.raw_bytes = raw_bytes;
  Vocabulary vocabulary(file.vocab, problems);
  MergeTable merges(file.merges.size());
  std::string joined;
  for (size_t rank = 0; rank < file.merges.size(); ++rank) {
    const auto& [left, right] = file.merges[rank];
    const int32_t left_id = vocabulary.find(left);
    const int32_t right_id = vocabulary.find(right);
    joined = left;
    joined += right.starts_with(options.prefix)
                  ? std::string_view(right).substr(options.prefix.size())
                  : right;
    const int32_t id = vocabulary.find(joined);
    if (left_id >= 0 && right_id >= 0 && id >= 0) {
      merges.add(left_id, right_id, static_cast<uint32_t>(rank), id);
    } else {
      problems.add(
          "model.merges",
          fmt::format("entry {} (`{}` and `{}`) needs `{}`, which is not in the vocabulary.", rank,
                      left, right, left_id < 0 ? left : (right_id < 0 ? right : joined)));
    }
  }
  if (!options.unknown.empty() && vocabulary.find(options.unknown) < 0) {
    problems.add("model.unk_token", fmt::format("`{}` is not in the vocabulary.", options.unknown));
  }
  return std::make_unique<BpeModel>(std::move(vocabulary), std::move(merges), std::move(options));
}

}  // namespace rlhf
