#include "rlhf/text/decoder.h"

#include <array>

#include "rlhf/text/byte_level.h"
#include "rlhf/text/regex.h"
#include "rlhf/text/unicode.h"

namespace rlhf {
namespace {

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

/// The spaces that WordPiece's plain joining leaves too many.
std::string cleaned(std::string text) {
  constexpr std::array<std::array<std::string_view, 2>, 11> kRules = {{{" .", "."},
                                                                       {" ?", "?"},
                                                                       {" !", "!"},
                                                                       {" ,", ","},
                                                                       {" ' ", "'"},
                                                                       {" n't", "n't"},
                                                                       {" 'm", "'m"},
                                                                       {" do not", " don't"},
                                                                       {" 's", "'s"},
                                                                       {" 've", "'ve"},
                                                                       {" 're", "'re"}}};
  for (const auto& [from, to] : kRules) {
    text = replaced(std::move(text), from, to);
  }
  return text;
}

void join_byte_level(std::vector<std::string>& tokens) {
  std::string bytes;
  for (const std::string& token : tokens) {
    append_from_byte_level(bytes, token);
  }
  tokens = {replace_invalid_utf8(bytes)};
}

/// Runs of byte tokens become their text, or one U+FFFD a byte where they are no UTF-8.
void join_fallback_bytes(std::vector<std::string>& tokens) {
  std::vector<std::string> out;
  std::string run;
  const auto flush = [&] {
    if (run.empty()) {
      return;
    }
    if (valid_utf8(run)) {
      out.push_back(run);
    } else {
      out.insert(out.end(), run.size(), "\xEF\xBF\xBD");
    }
    run.clear();
  };
  for (std::string& token : tokens) {
    if (const int byte = fallback_byte(token); byte >= 0) {
      run += static_cast<char>(byte);
    } else {
      flush();
      out.push_back(std::move(token));
    }
  }
  flush();
  tokens = std::move(out);
}

void fuse(std::vector<std::string>& tokens) {
  std::string all;
  for (const std::string& token : tokens) {
    all += token;
  }
  tokens = {std::move(all)};
}

void strip(std::string& token, std::string_view mark, int64_t start, int64_t stop) {
  for (int64_t i = 0; i < start && token.starts_with(mark); ++i) {
    token.erase(0, mark.size());
  }
  for (int64_t i = 0; i < stop && token.ends_with(mark); ++i) {
    token.erase(token.size() - mark.size());
  }
}

}  // namespace

int fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') {
    return -1;
  }
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) {
      return -1;
    }
    value = value * 16 + digit;
  }
  return value;
}

Decoder::Decoder(const JsonFields& part) : present_(true) {
  read(part, 0);
  if (byte_level_) {
    streaming_ = steps_.size() == 1 ? Streaming::bytes : Streaming::whole;
  }
}

void Decoder::read_strip(const JsonFields& part) {
  const std::string mark = part.text("content", " ");
  const int64_t start = part.integer("start", 0, 0, INT32_MAX);
  const int64_t stop = part.integer("stop", 0, 0, INT32_MAX);
  if (mark.empty() || utf8_length(static_cast<unsigned char>(mark[0])) != mark.size()) {
    part.problem(fmt::format("`content` must be one character, got `{}`.", mark));
    return;
  }
  if (fused_ && (stop > 0 || start > 1)) {
    streaming_ = Streaming::whole;
  }
  steps_.push_back([=](std::vector<std::string>& tokens) {
    for (std::string& token : tokens) {
      strip(token, mark, start, stop);
    }
  });
}

void Decoder::read(const JsonFields& part, int depth) {
  const std::string type = part.required_text("type");
  if (depth > kMaxDepth) {
    part.problem(fmt::format("nests more than {} levels deep.", kMaxDepth));
  } else if (type == "Sequence") {
    for (const JsonFields& one : part.list("decoders")) {
      read(one, depth + 1);
    }
  } else if (type == "ByteLevel") {
    byte_level_ = true;
    steps_.push_back(join_byte_level);
  } else if (type == "ByteFallback") {
    byte_fallback_ = true;
    steps_.push_back(join_fallback_bytes);
  } else if (type == "Fuse") {
    fused_ = true;
    steps_.push_back(fuse);
  } else if (type == "Strip") {
    read_strip(part);
  } else if (type == "Replace") {
    const std::optional<Regex> pattern = make_pattern(part);
    const std::string content = part.text("content");
    if (pattern) {
      streaming_ = fused_ ? Streaming::whole : streaming_;
      steps_.push_back([=](std::vector<std::string>& tokens) {
        for (std::string& token : tokens) {
          token = pattern->replace_all(token, content);
        }
      });
    }
  } else if (type == "Metaspace") {
    const std::string mark = part.text("replacement", "\xE2\x96\x81");
    std::string scheme = part.text("prepend_scheme", "always");
    scheme = part.boolean("add_prefix_space", true) ? scheme : "never";
    steps_.push_back([=](std::vector<std::string>& tokens) {
      for (size_t i = 0; i < tokens.size() && !mark.empty(); ++i) {
        tokens[i] = replaced(std::move(tokens[i]), mark, i == 0 && scheme != "never" ? "" : " ");
      }
    });
  } else if (type == "WordPiece") {
    const std::string prefix = part.text("prefix", "##");
    const bool cleanup = part.boolean("cleanup", true);
    steps_.push_back([=](std::vector<std::string>& tokens) {
      for (size_t i = 0; i < tokens.size(); ++i) {
        if (i > 0) {
          tokens[i] =
              tokens[i].starts_with(prefix) ? tokens[i].substr(prefix.size()) : " " + tokens[i];
        }
        tokens[i] = cleanup ? cleaned(std::move(tokens[i])) : tokens[i];
      }
    });
  } else if (type == "BPEDecoder") {
    const std::string suffix = part.text("suffix", "</w>");
    steps_.push_back([=](std::vector<std::string>& tokens) {
      for (size_t i = 0; i < tokens.size() && !suffix.empty(); ++i) {
        tokens[i] = replaced(std::move(tokens[i]), suffix, i + 1 == tokens.size() ? "" : " ");
      }
    });
  } else if (!type.empty()) {
    part.problem(fmt::format(
        "`{}` is no decoder known here; known are ByteLevel, Metaspace, ByteFallback, Fuse, "
        "Strip, Replace, WordPiece, BPEDecoder, Sequence.",
        type));
  }
}

std::string Decoder::decode(std::vector<std::string> tokens) const {
  for (const Step& step : steps_) {
    step(tokens);
  }
  std::string out;
  for (size_t i = 0; i < tokens.size(); ++i) {
    out += i > 0 && !present_ ? " " : "";
    out += tokens[i];
  }
  return out;
}

}  // namespace rlhf
