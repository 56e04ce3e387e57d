#include "rlhf/text/tokenizer_file.h"

#include <cmath>

#include "rlhf/text/unicode.h"

namespace rlhf {
namespace {

constexpr std::string_view kVocab = "model.vocab";
constexpr std::string_view kMerges = "model.merges";

void add_token(TokenizerFile& file, std::string token, const Json& id, Problems& problems) {
  if (!valid_utf8(token)) {
    problems.add(std::string(kVocab),
                 fmt::format("the token of id {} is not valid UTF-8.", id.dump()));
    return;
  }
  if (!id.is_number_integer() || id < 0 || id > kMaxTokenId) {
    problems.add(std::string(kVocab),
                 fmt::format("the id of `{}` must be a whole number from 0 to {}, got {}.", token,
                             kMaxTokenId, id.dump()));
    return;
  }
  file.vocab.emplace_back(std::move(token), id.get<int64_t>());
}

void add_piece(TokenizerFile& file, const Json& piece, Problems& problems) {
  if (!piece.is_array() || piece.size() != 2 || !piece[0].is_string() || !piece[1].is_number() ||
      !std::isfinite(piece[1].get<double>()) ||
      !valid_utf8(piece[0].get_ref<const std::string&>())) {
    problems.add(std::string(kVocab), fmt::format("entry {} must be [piece, score], got {}.",
                                                  file.pieces.size(), piece.dump()));
    file.pieces.emplace_back("", 0.0);
    return;
  }
  file.pieces.emplace_back(piece[0].get<std::string>(), piece[1].get<double>());
}

void add_merge(TokenizerFile& file, const Json& merge, Problems& problems) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    file.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
    return;
  }
  if (merge.is_string()) {
    const std::string& text = merge.get_ref<const std::string&>();
    if (text.starts_with("#version")) {
      return;
    }
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      file.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
      return;
    }
  }
  problems.add(std::string(kMerges),
               fmt::format("entry {} must be two tokens (\"a b\" or [\"a\", \"b\"]), got {}.",
                           file.merges.size(), merge.dump()));
}

/// Where a table entry goes; `key` is its token when the table is an object.
void add_entry(TokenizerFile& file, std::string_view table, const std::string* key,
               const Json& value, Problems& problems) {
  if (table == kMerges) {
    add_merge(file, value, problems);
  } else if (key != nullptr) {
    add_token(file, *key, value, problems);
  } else {
    add_piece(file, value, problems);
  }
}

/// Builds the document from parse events, handing entries of the two tables over as they end.
class Reader : public nlohmann::json_sax<Json> {
 public:
  Reader(TokenizerFile& file, Problems& problems) : file_(file), problems_(problems) {}

  std::string error;

  bool null() override { return value(nullptr); }
  bool boolean(bool v) override { return value(v); }
  bool number_integer(number_integer_t v) override { return value(v); }
  bool number_unsigned(number_unsigned_t v) override { return value(v); }
  bool number_float(number_float_t v, const string_t&) override { return value(v); }
  bool string(string_t& v) override { return value(std::move(v)); }
  bool binary(binary_t&) override { return false; }

  bool key(string_t& name) override {
    frames_.back().key = std::move(name);
    return true;
  }
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& e) override {
    error = fmt::format("is no JSON at byte {}: {}.", position, e.what());
    return false;
  }

 private:
  struct Frame {
    Json value;
    std::string key;
    std::string_view table;  ///< which table's entries this container holds, if any
  };

  bool open(Json container) {
    if (frames_.size() >= 256) {
      error = "nests more than 256 levels deep.";
      return false;
    }
    std::string_view table;
    if (frames_.size() == 2 && frames_[0].key == "model") {
      const std::string& name = frames_[1].key;
      if (name == "vocab") {
        table = kVocab;
      } else if (name == "merges" && container.is_array()) {
        table = kMerges;
      }
    }
    frames_.push_back({std::move(container), {}, table});
    return true;
  }

  bool value(Json v) {
    if (frames_.empty()) {
      file_.parts = std::move(v);
      return true;
    }
    Frame& top = frames_.back();
    if (!top.table.empty()) {
      add_entry(file_, top.table, top.value.is_object() ? &top.key : nullptr, v, problems_);
    } else if (top.value.is_object()) {
      top.value[top.key] = std::move(v);
    } else {
      top.value.push_back(std::move(v));
    }
    return true;
  }

  bool close() {
    Frame done = std::move(frames_.back());
    frames_.pop_back();
    return done.table.empty() ? value(std::move(done.value)) : true;
  }

  TokenizerFile& file_;
  Problems& problems_;
  std::vector<Frame> frames_;
};

}  // namespace

TokenizerFile TokenizerFile::read(std::string_view text, const std::string& where,
                                  Problems& problems) {
  TokenizerFile file;
  Reader reader(file, problems);
  if (!Json::sax_parse(text, &reader)) {
    throw UserError(where, reader.error,
                    "the file may be cut off or a Git LFS pointer; fetch it again.");
  }
  return file;
}

TokenizerFile TokenizerFile::from_json(const Json& document, Problems& problems) {
  TokenizerFile file;
  if (!document.is_object()) {
    file.parts = document;
    return file;
  }
  for (const auto& [name, part] : document.items()) {
    if (name != "model" || !part.is_object()) {
      file.parts[name] = part;
      continue;
    }
    Json& model = file.parts[name] = Json::object();
    for (const auto& [key, value] : part.items()) {
      if (key == "vocab" && value.is_structured()) {
        for (const auto& [token, entry] : value.items()) {
          add_entry(file, kVocab, value.is_object() ? &token : nullptr, entry, problems);
        }
      } else if (key == "merges" && value.is_array()) {
        for (const Json& merge : value) {
          add_entry(file, kMerges, nullptr, merge, problems);
        }
      } else {
        model[key] = value;
      }
    }
  }
  return file;
}

}  // namespace rlhf
