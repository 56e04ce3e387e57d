// Files built byte by byte: what a hostile or damaged one may say, and what it gets for it.
#include "rlhf/models/safetensors.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "rlhf/core/error.h"
#include "tests/models/temporary_folder.h"

namespace rlhf {
namespace {

using testing::TemporaryFolder;

std::string file_bytes(const std::string& header, const std::string& data) {
  std::string bytes(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header + data;
}

class Safetensors : public ::testing::Test {
 protected:
  /// The message for a file of these bytes; "accepted" if there is none.
  std::string refusal(const std::string& bytes) {
    const auto path = folder_.path() / "model.safetensors";
    std::ofstream(path, std::ios::binary) << bytes;
    try {
      const SafetensorsFile file(path);
      return "accepted";
    } catch (const UserError& error) {
      return error.what();
    }
  }

  void expect_refusal(const std::string& header, const std::string& data, const std::string& part) {
    const auto text = refusal(file_bytes(header, data));
    EXPECT_NE(text.find(part), std::string::npos)
        << "header " << header << "\nexpected " << part << "\ngot " << text;
  }

  TemporaryFolder folder_;
};

const std::string kTwoFloats(8, '\1');

TEST_F(Safetensors, ReadsAFileBuiltByHand) {
  const float values[] = {1.5F, -2.0F};
  const auto path = folder_.path() / "good.safetensors";
  std::string data(reinterpret_cast<const char*>(values), sizeof(values));
  data += std::string("\x80\x3f", 2);  // 1.0 in bfloat16
  std::ofstream(path, std::ios::binary) << file_bytes(
      R"({"b":{"dtype":"BF16","shape":[],"data_offsets":[8,10]},"__metadata__":{"format":"pt"},)"
      R"("a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
      R"("none":{"dtype":"F32","shape":[0,4],"data_offsets":[10,10]}})",
      data);
  const SafetensorsFile file(path);
  ASSERT_EQ(file.tensors().size(), 3U);
  EXPECT_EQ(file.tensors()[0].name, "a");
  const auto a = file.view(file.tensors()[0]);
  EXPECT_EQ(a.sizes(), at::IntArrayRef({2, 1}));
  EXPECT_EQ(a[0][0].item<float>(), 1.5F);
  EXPECT_EQ(a[1][0].item<float>(), -2.0F);
  EXPECT_EQ(file.view(file.tensors()[1]).item<float>(), 1.0F);
  EXPECT_EQ(file.view(file.tensors()[2]).numel(), 0);
}

TEST_F(Safetensors, ViewsOutliveTheFileObject) {
  const auto path = folder_.path() / "x.safetensors";
  write_safetensors(path, {{"x", at::arange(1000, at::kFloat), at::kFloat}});
  at::Tensor x;
  {
    const SafetensorsFile file(path);
    x = file.view(file.tensors().front());
  }
  fs::remove(path);
  EXPECT_EQ(x.sum().item<float>(), 499500.0F);  // 999·1000/2
}

TEST_F(Safetensors, CopiesUnalignedTensors) {
  const auto path = folder_.path() / "odd.safetensors";
  const float value = 3.25F;
  std::string data("z");
  data.append(reinterpret_cast<const char*>(&value), sizeof(value));
  std::string header =
      R"({"u":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"f":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})";
  header.append(8 - header.size() % 8, ' ');
  std::ofstream(path, std::ios::binary) << file_bytes(header, data);
  const SafetensorsFile file(path);
  const auto f = file.view(file.tensors()[1]);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(f.const_data_ptr()) % alignof(float), 0U);
  EXPECT_EQ(f.item<float>(), 3.25F);
}

TEST_F(Safetensors, RefusesBrokenLengths) {
  EXPECT_NE(refusal("").find("claims 0 bytes in a file of 0"), std::string::npos);
  EXPECT_NE(refusal("abc").find("in a file of 3"), std::string::npos);
  EXPECT_NE(refusal(std::string(8, '\xff') + "{}").find("claims 18446744073709551615 bytes"),
            std::string::npos);
  EXPECT_NE(refusal("version https://git-lfs.github.com/spec/v1\n").find("git-lfs pointer"),
            std::string::npos);
  std::string nearly = file_bytes("{}", "");
  nearly[0] = 3;  // one byte more than there is
  EXPECT_NE(refusal(nearly).find("claims 3 bytes in a file of 10"), std::string::npos);
}

TEST_F(Safetensors, RefusesBrokenHeaders) {
  expect_refusal("[1]", "", "a JSON object was expected as header");
  expect_refusal("{", "", "a JSON header was expected");
  expect_refusal("{\"a\":1e999}", "", "a JSON header was expected");
  expect_refusal(R"({"a":5})", "", "an object with dtype, shape and data_offsets was expected");
  expect_refusal(R"({"a":{"dtype":"F32","shape":[2]}})", kTwoFloats,
                 "an object with dtype, shape and data_offsets");
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  expect_refusal(fmt::format(R"({{"a":{}}})", deep), "", "nested");
  expect_refusal(R"({"a":{"dtype":{"x":{"y":{}}},"shape":[2],"data_offsets":[0,8]}})", kTwoFloats,
                 "nested");
}

TEST_F(Safetensors, RefusesDoubleNames) {
  expect_refusal(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      kTwoFloats, "it is given twice");
}

TEST_F(Safetensors, RefusesTypesAndShapes) {
  expect_refusal(R"({"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}})", kTwoFloats,
                 "got F8_E4M3");
  expect_refusal(R"({"a":{"dtype":7,"shape":[2],"data_offsets":[0,8]}})", kTwoFloats,
                 "got no text");
  expect_refusal(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", kTwoFloats,
                 "non-negative integers");
  expect_refusal(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", kTwoFloats,
                 "non-negative integers");
  expect_refusal(R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", kTwoFloats,
                 "non-negative integers");
  expect_refusal(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]}})",
                 kTwoFloats, "non-negative");
  // 2^32 · 2^32 · 4 is 0 modulo 2^64.
  expect_refusal(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})",
                 "", "fewer than 2^63");
  expect_refusal(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", kTwoFloats,
                 "12 bytes were expected");
}

TEST_F(Safetensors, RefusesOffsets) {
  expect_refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", kTwoFloats,
                 "got 8 to 0");
  expect_refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", kTwoFloats,
                 "12 bytes of data were expected by the header, the file has 8");
  // Tensors behind the cut are one fault, not one each.
  const std::string text = refusal(file_bytes(
      R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}})",
      kTwoFloats));
  EXPECT_NE(text.find("32 bytes of data were expected by the header, the file has 8"),
            std::string::npos);
  EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  expect_refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}})", kTwoFloats,
                 "two non-negative integers");
  expect_refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}})", kTwoFloats,
                 "two non-negative integers");
  expect_refusal(
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      kTwoFloats, "overlap or leave a gap");
  expect_refusal(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", kTwoFloats,
                 "overlap or leave a gap");
  expect_refusal(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", kTwoFloats,
                 "4 bytes of data were expected");
  expect_refusal("{}", kTwoFloats, "0 bytes of data were expected");
}

TEST_F(Safetensors, ListsEveryProblem) {
  const auto text = refusal(file_bytes(
      R"({"a":{"dtype":"F9","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[9],"data_offsets":[0,8]}})",
      kTwoFloats));
  EXPECT_NE(text.find(": a] "), std::string::npos) << text;
  EXPECT_NE(text.find(": b] "), std::string::npos) << text;
}

// A bit anywhere in the header may flip: the file is refused or read, never a crash (the sanitizers
// watch).
TEST_F(Safetensors, SurvivesEveryFlippedBitOfAHeader) {
  const auto good =
      file_bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", kTwoFloats);
  for (size_t i = 0; i < good.size() - kTwoFloats.size(); ++i) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      auto bad = good;
      bad[i] = static_cast<char>(static_cast<unsigned char>(bad[i]) ^ (1U << bit));
      refusal(bad);
    }
  }
}

// The reference library's bytes for the same content, worked by hand from the format: wider types
// first, then by name, header padded to eight bytes.
TEST_F(Safetensors, WritesTheReferenceLayout) {
  const auto path = folder_.path() / "out.safetensors";
  const auto ones = at::arange(2, at::kFloat);
  write_safetensors(path,
                    {{"b", ones, at::kBFloat16}, {"z", ones, at::kFloat}, {"c", ones, at::kFloat}});
  std::string header =
      R"({"__metadata__":{"format":"pt"},"c":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("z":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[16,20]}})";
  header.append((8 - header.size() % 8) % 8, ' ');
  const std::string floats("\0\0\0\0\0\0\x80\x3f", 8);
  EXPECT_EQ(read_file(path), file_bytes(header, floats + floats + std::string("\0\0\x80\x3f", 4)));
}

TEST_F(Safetensors, ReplacesAMappedFileWithoutTouchingIt) {
  const auto path = folder_.path() / "x.safetensors";
  write_safetensors(path, {{"x", at::arange(4, at::kFloat), at::kFloat}});
  const SafetensorsFile old(path);
  const auto x = old.view(old.tensors().front());
  write_safetensors(path, {{"x", at::arange(4, at::kFloat) + 10, at::kFloat}});
  EXPECT_EQ(x.sum().item<float>(), 6.0F);
  const SafetensorsFile now(path);
  EXPECT_EQ(now.view(now.tensors().front()).sum().item<float>(), 46.0F);
}

}  // namespace
}  // namespace rlhf
