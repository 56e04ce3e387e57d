#include "rlhf/models/safetensors.h"

#include <ATen/ATen.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>

#include "rlhf/core/error.h"
#include "rlhf/core/json.h"

namespace rlhf {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little endian");

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kLongestHeader = 100'000'000;  // the reference library's bound
constexpr int kDeepestHeader = 3;                 // header, tensor, its shape
constexpr size_t kMostDimensions = 16;
constexpr uint64_t kAlignment = 8;

struct TypeName {
  const char* name;
  at::ScalarType dtype;
};

// Order as in the reference library: files are sorted by it, last first.
constexpr TypeName kTypes[] = {
    {"BOOL", at::kBool},  {"U8", at::kByte},       {"I8", at::kChar}, {"I16", at::kShort},
    {"F16", at::kHalf},   {"BF16", at::kBFloat16}, {"I32", at::kInt}, {"F32", at::kFloat},
    {"F64", at::kDouble}, {"I64", at::kLong},
};

const TypeName* type_by_name(std::string_view name) {
  const auto* it = std::find_if(std::begin(kTypes), std::end(kTypes),
                                [&](const TypeName& t) { return t.name == name; });
  return it == std::end(kTypes) ? nullptr : it;
}

const TypeName& type_of(at::ScalarType dtype) {
  const auto* it = std::find_if(std::begin(kTypes), std::end(kTypes),
                                [&](const TypeName& t) { return t.dtype == dtype; });
  check(it != std::end(kTypes), "safetensors", "type {} cannot be stored.", c10::toString(dtype));
  return *it;
}

/// Parses the header, noting what nlohmann would pass over: names given twice, nesting.
Json parse_header(std::string_view text, const std::string& where, Problems& problems) {
  std::set<std::string> seen;
  bool deep = false;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kDeepestHeader) deep = true;
    if (depth == 1 && event == Json::parse_event_t::key &&
        !seen.insert(parsed.get<std::string>()).second) {
      problems.add(fmt::format("{}: {}", where, parsed.get<std::string>()),
                   "a name was expected once, it is given twice.");
    }
    return !deep;
  };
  Json header;
  try {
    header = Json::parse(text, watch);
  } catch (const Json::exception& error) {
    problems.add(where, fmt::format("a JSON header was expected: {}.", error.what()));
    return Json::object();
  }
  if (deep || !header.is_object()) {
    problems.add(where, deep ? "a header nested at most 3 deep was expected, it is deeper."
                             : "a JSON object was expected as header.");
    return Json::object();
  }
  return header;
}

/// Bytes of a shape; nothing where the product overflows.
std::optional<uint64_t> bytes_of(const std::vector<int64_t>& shape, at::ScalarType dtype) {
  uint64_t bytes = c10::elementSize(dtype);
  for (const int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes)) return std::nullopt;
  }
  return bytes <= static_cast<uint64_t>(INT64_MAX) ? std::optional(bytes) : std::nullopt;
}

bool is_natural(const Json& value) {
  return value.is_number_integer() && (value.is_number_unsigned() || value.get<int64_t>() >= 0) &&
         value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX);
}

bool all_natural(const Json& list) {
  return list.is_array() &&
         std::all_of(list.begin(), list.end(), [](const Json& one) { return is_natural(one); });
}

/// One entry of the header; nothing where it is broken.
std::optional<StoredTensor> read_entry(const std::string& name, const Json& entry,
                                       const std::string& where, Problems& problems) {
  const auto problem = [&](std::string what) {
    problems.add(fmt::format("{}: {}", where, name), std::move(what));
    return std::nullopt;
  };
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets")) {
    return problem("an object with dtype, shape and data_offsets was expected.");
  }
  const auto& dtype = entry["dtype"];
  const auto& shape = entry["shape"];
  const auto& offsets = entry["data_offsets"];
  const TypeName* type = dtype.is_string() ? type_by_name(dtype.get<std::string>()) : nullptr;
  if (type == nullptr) {
    return problem(fmt::format(
        "a type of F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL was expected, got {}.",
        dtype.is_string() ? dtype.get<std::string>() : "no text"));
  }
  if (!all_natural(shape) || shape.size() > kMostDimensions) {
    return problem(
        fmt::format("a shape of at most {} non-negative integers was expected.", kMostDimensions));
  }
  if (!all_natural(offsets) || offsets.size() != 2)
    return problem("data_offsets of two non-negative integers were expected.");
  StoredTensor tensor{name, type->dtype, shape.get<std::vector<int64_t>>(),
                      offsets[0].get<uint64_t>(), offsets[1].get<uint64_t>()};
  if (tensor.begin > tensor.end) {
    return problem(fmt::format("data_offsets from begin to end were expected, got {} to {}.",
                               tensor.begin, tensor.end));
  }
  const auto bytes = bytes_of(tensor.shape, tensor.dtype);
  if (!bytes || *bytes != tensor.end - tensor.begin) {
    return problem(fmt::format("{} bytes were expected for its shape, data_offsets give {}.",
                               bytes ? fmt::format("{}", *bytes) : "fewer than 2^63",
                               tensor.end - tensor.begin));
  }
  return tensor;
}

/// One fault where the file ends before its tensors do, in place of one a tensor.
void check_not_cut(const Json& header, uint64_t data_bytes, const std::string& where) {
  uint64_t end = 0;
  for (const auto& [name, entry] : header.items()) {
    if (!entry.is_object()) continue;
    const auto offsets = entry.find("data_offsets");
    if (offsets != entry.end() && all_natural(*offsets) && offsets->size() == 2)
      end = std::max(end, (*offsets)[1].get<uint64_t>());
  }
  if (end <= data_bytes) return;
  throw UserError(where,
                  fmt::format("{} bytes of data were expected by the header, the file has {}.", end,
                              data_bytes),
                  "the file is truncated or was damaged in transfer.");
}

/// The tensors must cover the data without gap or overlap.
void check_cover(const std::vector<StoredTensor>& tensors, uint64_t data_bytes,
                 const std::string& where, Problems& problems) {
  uint64_t at = 0;
  for (const auto& tensor : tensors) {
    if (tensor.begin != at) {
      problems.add(
          fmt::format("{}: {}", where, tensor.name),
          fmt::format(
              "data from byte {} on was expected, it starts at {}: tensors overlap or leave a gap.",
              at, tensor.begin));
    }
    at = tensor.end;
  }
  if (at != data_bytes) {
    problems.add(where,
                 fmt::format("{} bytes of data were expected by the header, the file has {}.", at,
                             data_bytes),
                 "the file is truncated or was damaged in transfer.");
  }
}

/// A file that is written aside and put in place when it is whole.
class NewFile {
 public:
  explicit NewFile(fs::path path) : path_(std::move(path)), temporary_(path_) {
    temporary_ += AtomicFolder::kUnfinishedSuffix;
    out_.open(temporary_, std::ios::binary | std::ios::trunc);
    expect(out_.is_open());
  }
  ~NewFile() {
    std::error_code ignored;
    fs::remove(temporary_, ignored);
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void write(const void* bytes, uint64_t count) {
    out_.write(static_cast<const char*>(bytes), static_cast<std::streamsize>(count));
    expect(out_.good());
  }

  void finish() {
    out_.close();
    expect(!out_.fail());
    sync_path(temporary_);
    std::error_code error;
    fs::rename(temporary_, path_, error);
    if (error) throw_write_error(path_, error.value());
  }

 private:
  void expect(bool ok) {
    if (!ok) throw_write_error(path_, errno);
  }

  fs::path path_;
  fs::path temporary_;
  std::ofstream out_;
};

std::string header_of(const std::vector<TensorToStore>& tensors) {
  Json header;
  header["__metadata__"] = {{"format", "pt"}};
  uint64_t at = 0;
  for (const auto& stored : tensors) {
    const uint64_t end = at + stored.bytes();
    header[stored.name] = {{"dtype", type_of(stored.dtype).name},
                           {"shape", stored.tensor.sizes().vec()},
                           {"data_offsets", {at, end}}};
    at = end;
  }
  auto text = header.dump();
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  return text;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const fs::path& path) : file_(std::make_shared<MappedFile>(path)) {
  const auto where = path.string();
  const auto text = file_->text();
  uint64_t header_bytes = 0;
  if (text.size() >= kLengthBytes) std::memcpy(&header_bytes, text.data(), kLengthBytes);
  if (text.size() < kLengthBytes ||
      header_bytes > std::min(kLongestHeader, text.size() - kLengthBytes)) {
    throw UserError(
        where,
        fmt::format("a safetensors header was expected; it claims {} bytes in a file of {}.",
                    header_bytes, text.size()),
        "the file is truncated, or is no safetensors file (a git-lfs pointer is a text file).");
  }
  data_begin_ = kLengthBytes + header_bytes;
  const uint64_t data_bytes = text.size() - data_begin_;
  Problems problems;
  const auto header = parse_header(text.substr(kLengthBytes, header_bytes), where, problems);
  check_not_cut(header, data_bytes, where);
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    if (auto tensor = read_entry(name, entry, where, problems))
      tensors_.push_back(std::move(*tensor));
  }
  std::stable_sort(tensors_.begin(), tensors_.end(),
                   [](const StoredTensor& a, const StoredTensor& b) {
                     return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
                   });
  if (problems.empty()) check_cover(tensors_, data_bytes, where, problems);
  problems.throw_if_any();
}

at::Tensor SafetensorsFile::view(const StoredTensor& tensor) const {
  const auto options = at::TensorOptions().dtype(tensor.dtype);
  if (tensor.begin == tensor.end) return at::empty(tensor.shape, options);
  const std::byte* bytes = file_->bytes().data() + data_begin_ + tensor.begin;
  if (reinterpret_cast<uintptr_t>(bytes) % c10::elementSize(tensor.dtype) != 0) {
    auto copy = at::empty(tensor.shape, options);
    std::memcpy(copy.data_ptr(), bytes, tensor.end - tensor.begin);
    return copy;
  }
  // torch has no read-only tensor; the map itself refuses writes.
  return at::from_blob(
      const_cast<std::byte*>(bytes), tensor.shape, [keep = file_](void*) {}, options);
}

uint64_t TensorToStore::bytes() const {
  return static_cast<uint64_t>(tensor.numel()) * c10::elementSize(dtype);
}

void write_safetensors(const fs::path& path, std::vector<TensorToStore> tensors) {
  const auto rank = [](const TensorToStore& stored) {
    return &type_of(stored.dtype) - std::begin(kTypes);
  };
  std::stable_sort(tensors.begin(), tensors.end(),
                   [&](const TensorToStore& a, const TensorToStore& b) {
                     return rank(a) != rank(b) ? rank(a) > rank(b) : a.name < b.name;
                   });
  const auto header = header_of(tensors);
  NewFile file(path);
  const uint64_t header_bytes = header.size();
  file.write(&header_bytes, kLengthBytes);
  file.write(header.data(), header.size());
  for (const auto& stored : tensors) {
    const auto plain = stored.tensor.detach().to(at::kCPU, stored.dtype).contiguous();
    file.write(plain.const_data_ptr(), stored.bytes());
  }
  file.finish();
}

}  // namespace rlhf
