#include "rlhf/text/pre_tokenizer.h"

#include <algorithm>
#include <functional>

#include "rlhf/text/byte_level.h"
#include "rlhf/text/unicode.h"

namespace rlhf {
namespace {

constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// What becomes of a delimiter, after `the-final--countdown` cut at `-`:
enum class Behavior {
  removed,               // the final countdown
  isolated,              // the - final - - countdown
  merged_with_previous,  // the- final- - countdown
  merged_with_next,      // the -final - -countdown
  contiguous,            // the - final -- countdown
};

/// Joins neighbours of `matches` in place as `behavior` says; what remains are the spans to keep.
void apply_behavior(std::vector<Match>& matches, Behavior behavior) {
  if (behavior == Behavior::isolated) {
    return;
  }
  if (behavior == Behavior::removed) {
    std::erase_if(matches, [](const Match& m) { return m.matched; });
    return;
  }
  std::vector<Match> kept;
  bool previous = false;
  const auto visit = [&](const Match& m) {
    const bool join = !kept.empty() && (behavior == Behavior::contiguous ? m.matched == previous
                                                                         : m.matched && !previous);
    if (!join) {
      kept.push_back(m);
    } else if (behavior == Behavior::merged_with_next) {
      kept.back().begin = m.begin;
    } else {
      kept.back().end = m.end;
    }
    previous = m.matched;
  };
  if (behavior == Behavior::merged_with_next) {
    std::for_each(matches.rbegin(), matches.rend(), visit);
    matches.assign(kept.rbegin(), kept.rend());
  } else {
    std::for_each(matches.begin(), matches.end(), visit);
    matches = std::move(kept);
  }
}

/// Cuts every piece at the matches of `find(text, matches)`.
class SplitStage : public PreTokenizerStage {
 public:
  using Find = std::function<void(std::string_view text, std::vector<Match>& out)>;
  SplitStage(Find find, Behavior behavior, bool invert)
      : find_(std::move(find)), behavior_(behavior), invert_(invert) {}

  void apply(PreTokens& tokens) const override {
    tokens.spare.clear();
    for (const Piece& piece : tokens.pieces) {
      tokens.matches.clear();
      find_(tokens.piece(piece), tokens.matches);
      if (invert_) {
        for (Match& m : tokens.matches) {
          m.matched = !m.matched;
        }
      }
      apply_behavior(tokens.matches, behavior_);
      for (const Match& m : tokens.matches) {
        if (m.end > m.begin) {
          tokens.spare.push_back(
              {piece.begin + m.begin, piece.begin + m.end, piece.at_start && m.begin == 0});
        }
      }
    }
    tokens.pieces.swap(tokens.spare);
  }

 private:
  Find find_;
  Behavior behavior_;
  bool invert_;
};

/// Rewrites every piece by `write(piece, at_start, out)`.
class RewriteStage : public PreTokenizerStage {
 public:
  using Write = std::function<void(std::string_view piece, bool at_start, std::string& out)>;
  RewriteStage(Write write, bool maps_bytes) : write_(std::move(write)), maps_bytes_(maps_bytes) {}

  void apply(PreTokens& tokens) const override {
    std::string& out = tokens.spare_text;
    out.clear();
    for (Piece& piece : tokens.pieces) {
      const size_t begin = out.size();
      write_(tokens.piece(piece), piece.at_start, out);
      piece.begin = begin;
      piece.end = out.size();
    }
    tokens.rewritten.swap(out);
    tokens.text = tokens.rewritten;
  }
  bool maps_bytes() const override { return maps_bytes_; }

 private:
  Write write_;
  bool maps_bytes_;
};

void add_split(PreTokenizerStages& stages, SplitStage::Find find, Behavior behavior,
               bool invert = false) {
  stages.push_back(std::make_unique<SplitStage>(std::move(find), behavior, invert));
}

void add_split(PreTokenizerStages& stages, Regex regex, Behavior behavior, bool invert = false) {
  add_split(
      stages,
      [regex = std::move(regex)](std::string_view text, std::vector<Match>& out) {
        regex.find_all(text, out);
      },
      behavior, invert);
}

void add_rewrite(PreTokenizerStages& stages, RewriteStage::Write write, bool maps_bytes = false) {
  stages.push_back(std::make_unique<RewriteStage>(std::move(write), maps_bytes));
}

/// Every character for which `is(c)` is a match of its own.
template <class Fn>
SplitStage::Find each_character(Fn is) {
  return [is](std::string_view text, std::vector<Match>& out) {
    size_t covered = 0;
    for (size_t at = 0; at < text.size();) {
      const CodePoint c = decode_utf8(text, at);
      if (is(c.value)) {
        if (covered < at) {
          out.push_back({covered, at, false});
        }
        out.push_back({at, at + c.length, true});
        covered = at + c.length;
      }
      at += c.length;
    }
    if (covered < text.size()) {
      out.push_back({covered, text.size(), false});
    }
  };
}

/// Runs of word characters and runs of what is neither word nor white space, as matches.
void find_words(std::string_view text, std::vector<Match>& out) {
  const auto kind = [&](size_t at) {
    const char32_t c = decode_utf8(text, at).value;
    return is_word_character(c) ? 1 : is_white_space(c) ? 0 : 2;
  };
  for (size_t at = 0; at < text.size();) {
    const int first = kind(at);
    size_t end = at;
    while (end < text.size() && kind(end) == first) {
      end += utf8_length(static_cast<unsigned char>(text[end]));
    }
    out.push_back({at, end, first != 0});
    at = end;
  }
}

Behavior read_behavior(const JsonFields& part, std::string_view fallback) {
  const std::string name = part.text("behavior", fallback);
  if (name == "Removed") {
    return Behavior::removed;
  }
  if (name == "MergedWithPrevious") {
    return Behavior::merged_with_previous;
  }
  if (name == "MergedWithNext") {
    return Behavior::merged_with_next;
  }
  if (name == "Contiguous") {
    return Behavior::contiguous;
  }
  if (name != "Isolated") {
    part.problem(fmt::format(
        "`behavior` must be Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous, "
        "got `{}`.",
        name));
  }
  return Behavior::isolated;
}

/// A field that must be one character.
std::string read_character(const JsonFields& part, std::string_view key,
                           std::string_view fallback) {
  const std::string text = part.text(key, fallback);
  if (text.empty() || utf8_length(static_cast<unsigned char>(text[0])) != text.size()) {
    part.problem(fmt::format("`{}` must be one character, got `{}`.", key, text));
    return std::string(fallback);
  }
  return text;
}

void make_byte_level(const JsonFields& part, PreTokenizerStages& stages) {
  if (part.boolean("add_prefix_space", true)) {
    add_rewrite(stages, [](std::string_view piece, bool, std::string& out) {
      out += piece.empty() || piece[0] == ' ' ? "" : " ";
      out += piece;
    });
  }
  if (part.boolean("use_regex", true)) {
    add_split(stages, Regex(kGpt2Pattern, part.where()), Behavior::isolated);
  }
  add_rewrite(
      stages, [](std::string_view piece, bool, std::string& out) { append_byte_level(out, piece); },
      /*maps_bytes=*/true);
}

void make_metaspace(const JsonFields& part, PreTokenizerStages& stages) {
  const std::string mark = read_character(part, "replacement", "\xE2\x96\x81");
  std::string scheme = part.text("prepend_scheme", "always");
  if (!part.boolean("add_prefix_space", true)) {  // what early versions had for a scheme
    scheme = "never";
  }
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    part.problem(fmt::format("`prepend_scheme` must be always, first or never, got `{}`.", scheme));
  }
  add_rewrite(stages, [=](std::string_view piece, bool at_start, std::string& out) {
    const bool marked = piece.empty() || piece[0] == ' ' || piece.starts_with(mark);
    if (!marked && (scheme == "always" || (scheme == "first" && at_start))) {
      out += mark;
    }
    for (const char c : piece) {
      if (c == ' ') {
        out += mark;
      } else {
        out += c;
      }
    }
  });
  if (part.boolean("split", true)) {
    const char32_t c = decode_utf8(mark, 0).value;
    add_split(stages, each_character([c](char32_t x) { return x == c; }),
              Behavior::merged_with_next);
  }
}

void make_fixed_length(const JsonFields& part, PreTokenizerStages& stages) {
  const int64_t length = part.integer("length", 5, 1, INT32_MAX);
  add_split(
      stages,
      [length](std::string_view text, std::vector<Match>& out) {
        for (size_t at = 0; at < text.size();) {
          size_t end = at;
          for (int64_t i = 0; i < length && end < text.size(); ++i) {
            end += utf8_length(static_cast<unsigned char>(text[end]));
          }
          out.push_back({at, end, true});
          at = end;
        }
      },
      Behavior::isolated);
}

bool is_any_punctuation(char32_t c) { return is_ascii_punctuation(c) || is_punctuation(c); }

}  // namespace

void PreTokens::reset(std::string_view new_text, bool at_start) {
  text = new_text;
  pieces.clear();
  if (!text.empty()) {
    pieces.push_back({0, text.size(), at_start});
  }
}

void make_pre_tokenizer(const JsonFields& part, PreTokenizerStages& stages, int depth) {
  const std::string type = part.required_text("type");
  if (depth > kMaxDepth) {
    part.problem(fmt::format("nests more than {} levels deep.", kMaxDepth));
  } else if (type == "Sequence") {
    for (const JsonFields& one : part.list("pretokenizers")) {
      make_pre_tokenizer(one, stages, depth + 1);
    }
  } else if (type == "ByteLevel") {
    make_byte_level(part, stages);
  } else if (type == "Split") {
    const Behavior behavior = read_behavior(part, "");
    const bool invert = part.boolean("invert", false);
    if (std::optional<Regex> regex = make_pattern(part)) {
      add_split(stages, std::move(*regex), behavior, invert);
    }
  } else if (type == "Digits") {
    add_split(stages, each_character(is_numeric),
              part.boolean("individual_digits", false) ? Behavior::isolated : Behavior::contiguous);
  } else if (type == "Punctuation") {
    add_split(stages, each_character(is_any_punctuation), read_behavior(part, "Isolated"));
  } else if (type == "Metaspace") {
    make_metaspace(part, stages);
  } else if (type == "Whitespace") {
    add_split(stages, find_words, Behavior::removed, /*invert=*/true);
  } else if (type == "WhitespaceSplit") {
    add_split(stages, each_character(is_white_space), Behavior::removed);
  } else if (type == "BertPreTokenizer") {
    add_split(stages, each_character(is_white_space), Behavior::removed);
    add_split(stages, each_character(is_any_punctuation), Behavior::isolated);
  } else if (type == "CharDelimiterSplit") {
    const std::string delimiter = read_character(part, "delimiter", " ");
    const char32_t c = decode_utf8(delimiter, 0).value;
    add_split(stages, each_character([c](char32_t x) { return x == c; }), Behavior::removed);
  } else if (type == "FixedLength") {
    make_fixed_length(part, stages);
  } else if (!type.empty()) {
    part.problem(fmt::format(
        "`{}` is no pre-tokeniser known here; known are Sequence, ByteLevel, Split, Digits, "
        "Punctuation, Metaspace, "
        "Whitespace, WhitespaceSplit, BertPreTokenizer, CharDelimiterSplit, FixedLength.",
        type));
  }
}

}  // namespace rlhf
