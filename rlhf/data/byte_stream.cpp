#include "rlhf/data/byte_stream.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

constexpr size_t kInputBytes = size_t{128} << 10;
constexpr int kGzipOnly = 15 + 16;  // window bits of inflateInit2: 32 KB, gzip wrapper

std::shared_ptr<z_stream> copy_state(z_stream& source) {
  auto state = std::make_unique<z_stream>();
  check(inflateCopy(state.get(), &source) == Z_OK, "gzip", "no memory to copy the inflater.");
  return {state.release(), RestartPoints::InflateEnd{}};
}

}  // namespace

void RestartPoints::InflateEnd::operator()(z_stream* state) const {
  inflateEnd(state);
  delete state;
}

const RestartPoints::Point* RestartPoints::before(uint64_t position) const {
  const auto after =
      std::upper_bound(points_.begin(), points_.end(), position,
                       [](uint64_t wanted, const Point& point) { return wanted < point.position; });
  return after == points_.begin() ? nullptr : &*std::prev(after);
}

ByteStream::ByteStream(fs::path path, const RestartPoints* points)
    : path_(std::move(path)), points_(points), fd_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (fd_ < 0) {
    throw UserError(path_.string(),
                    fmt::format("a readable file was expected: {}.", std::strerror(errno)),
                    "check the path and its permissions.");
  }
  std::array<unsigned char, 2> magic{};
  const ssize_t got = ::pread(fd_, magic.data(), magic.size(), 0);
  if (got == 2 && magic[0] == 0x1f && magic[1] == 0x8b) start_inflater();
}

ByteStream::~ByteStream() {
  if (fd_ >= 0) ::close(fd_);
}

ByteStream::ByteStream(ByteStream&& other) noexcept
    : path_(std::move(other.path_)),
      points_(other.points_),
      fd_(std::exchange(other.fd_, -1)),
      file_position_(other.file_position_),
      position_(other.position_),
      inflater_(std::move(other.inflater_)),
      input_(std::move(other.input_)),
      inside_member_(other.inside_member_) {}

ByteStream& ByteStream::operator=(ByteStream&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(points_, other.points_);
  std::swap(fd_, other.fd_);
  std::swap(file_position_, other.file_position_);
  std::swap(position_, other.position_);
  std::swap(inflater_, other.inflater_);
  std::swap(input_, other.input_);
  std::swap(inside_member_, other.inside_member_);
  return *this;
}

void ByteStream::start_inflater() {
  auto state = std::make_unique<z_stream>();
  *state = {};
  check(inflateInit2(state.get(), kGzipOnly) == Z_OK, path_.string(),
        "no memory for the inflater.");
  inflater_ = {state.release(), RestartPoints::InflateEnd{}};
  input_.resize(kInputBytes);
  file_position_ = 0;
  position_ = 0;
  inside_member_ = false;
}

size_t ByteStream::read_file(std::span<char> out) {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got =
        ::pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(file_position_));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      throw UserError(path_.string(), fmt::format("cannot read: {}.", std::strerror(errno)));
    }
    if (got == 0) break;
    done += static_cast<size_t>(got);
    file_position_ += static_cast<uint64_t>(got);
  }
  return done;
}

size_t ByteStream::inflate_some(std::span<char> out) {
  z_stream& state = *inflater_;
  state.next_out = reinterpret_cast<Bytef*>(out.data());
  state.avail_out = static_cast<uInt>(out.size());
  while (state.avail_out > 0) {
    if (state.avail_in == 0) {
      const size_t got = read_file({reinterpret_cast<char*>(input_.data()), input_.size()});
      state.next_in = input_.data();
      state.avail_in = static_cast<uInt>(got);
      if (got == 0) {
        if (!inside_member_) break;
        throw UserError(path_.string(),
                        fmt::format("the gzip data ends too early, after {} bytes of text.",
                                    position_ + out.size() - state.avail_out),
                        "the file was cut while it was written or copied; fetch it again.");
      }
    }
    inside_member_ = true;
    const int result = inflate(&state, Z_NO_FLUSH);
    if (result == Z_STREAM_END) {
      inside_member_ = false;
      inflateReset(&state);
    } else if (result != Z_OK) {
      throw UserError(path_.string(),
                      fmt::format("the gzip data is damaged after {} bytes of text: {}.",
                                  position_ + out.size() - state.avail_out,
                                  state.msg != nullptr ? state.msg : "not a deflate stream"),
                      "fetch the file again; `gzip -t` checks it.");
    }
  }
  return out.size() - state.avail_out;
}

size_t ByteStream::read(std::span<char> out) {
  const size_t got = gzip() ? inflate_some(out) : read_file(out);
  position_ += got;
  return got;
}

void ByteStream::seek(uint64_t position) {
  if (!gzip()) {
    file_position_ = position_ = position;
    return;
  }
  const RestartPoints::Point* point = points_ != nullptr ? points_->before(position) : nullptr;
  const bool forward = position >= position_;
  if (point != nullptr && (!forward || point->position > position_)) {
    inflater_ = copy_state(*point->state);
    inflater_->avail_in = 0;
    file_position_ = point->compressed_position;
    position_ = point->position;
    inside_member_ = true;
  } else if (!forward) {
    start_inflater();
  }
  std::vector<char> skipped(std::min<uint64_t>(position - position_, kInputBytes));
  while (position_ < position) {
    const size_t wanted = std::min<uint64_t>(position - position_, skipped.size());
    check(read({skipped.data(), wanted}) == wanted, path_.string(),
          "position {} lies behind the end.", position);
  }
}

void ByteStream::record(RestartPoints& points) const {
  if (!gzip() || !inside_member_ || position_ < points.last_position() + RestartPoints::kSpacing)
    return;
  points.add({position_, file_position_ - inflater_->avail_in, copy_state(*inflater_)});
}

}  // namespace rlhf
