#include "rlhf/report/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

std::array<uint32_t, 256> make_crc_table() {
  constexpr uint32_t kReversedPolynomial = 0x82F63B78U;
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit)
      value = (value >> 1) ^ ((value & 1U) != 0 ? kReversedPolynomial : 0U);
    table[byte] = value;
  }
  return table;
}

// Stored checksums are rotated and shifted, so that a checksum over checksums stays meaningful (the
// format's rule).
uint32_t masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xA282EAD8U; }

template <class T>
void put_fixed(std::string& out, T value) {
  static_assert(std::endian::native == std::endian::little);
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void put_tag(std::string& out, uint32_t field, WireType type) {
  put_varint(out, (field << 3) | type);
}

void put_bytes(std::string& out, uint32_t field, std::string_view bytes) {
  put_tag(out, field, kBytes);
  put_varint(out, bytes.size());
  out += bytes;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Event { double wall_time = 1; int64 step = 2; … }; a step of 0 is left out, as proto3 does.
std::string event_head(double wall_time, int64_t step) {
  std::string event;
  put_tag(event, 1, kFixed64);
  put_fixed(event, wall_time);
  if (step != 0) {
    put_tag(event, 2, kVarint);
    put_varint(event, static_cast<uint64_t>(step));
  }
  return event;
}

std::string framed(std::string_view payload) {
  std::string length;
  put_fixed(length, static_cast<uint64_t>(payload.size()));
  std::string record = length;
  put_fixed(record, masked(crc32c(length)));
  record += payload;
  put_fixed(record, masked(crc32c(payload)));
  return record;
}

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "localhost";
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static const auto table = make_crc_table();
  uint32_t crc = 0xFFFFFFFFU;
  for (const char c : bytes) crc = (crc >> 8) ^ table[(crc ^ static_cast<uint8_t>(c)) & 0xFFU];
  return ~crc;
}

std::string tensorboard_version_record(double wall_time) {
  std::string event = event_head(wall_time, /*step=*/0);
  put_bytes(event, 3, "brain.Event:2");
  return framed(event);
}

std::string tensorboard_start_record(double wall_time, int64_t step) {
  std::string event = event_head(wall_time, step);
  put_bytes(event, 7, std::string_view("\x08\x01", 2));  // SessionLog { status = START }
  return framed(event);
}

std::string tensorboard_scalars_record(double wall_time, int64_t step,
                                       const std::vector<std::pair<std::string, double>>& scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars) {
    std::string entry;  // Summary.Value { string tag = 1; float simple_value = 2; }
    put_bytes(entry, 1, tag);
    put_tag(entry, 2, kFixed32);
    put_fixed(entry, static_cast<float>(value));
    put_bytes(summary, 1, entry);
  }
  std::string event = event_head(wall_time, step);
  put_bytes(event, 5, summary);
  return framed(event);
}

TensorBoardWriter::TensorBoardWriter(const fs::path& folder, int64_t first_step)
    : path_(folder / fmt::format("events.out.tfevents.{:.6f}.{}.{}", seconds_now(), host_name(),
                                 ::getpid())) {
  append_file(path_, tensorboard_version_record(seconds_now()) +
                         tensorboard_start_record(seconds_now(), first_step));
}

void TensorBoardWriter::add(int64_t step,
                            const std::vector<std::pair<std::string, double>>& scalars) {
  append_file(path_, tensorboard_scalars_record(seconds_now(), step, scalars));
}

}  // namespace rlhf
