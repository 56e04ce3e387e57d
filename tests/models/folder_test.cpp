#include "rlhf/models/folder.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "rlhf/core/error.h"
#include "rlhf/models/safetensors.h"
#include "tests/models/cases.h"
#include "tests/models/folders.h"
#include "tests/models/temporary_folder.h"

namespace rlhf {
namespace {

using testing::expect_part;
using testing::find_case;
using testing::ids_of;
using testing::make_folder;
using testing::pack;
using testing::refusal;
using testing::score;
using testing::TemporaryFolder;

class Folder : public ::testing::Test {
 protected:
  fs::path sub(const std::string& name) {
    const auto path = temporary_.path() / name;
    fs::create_directories(path);
    return path;
  }
  TemporaryFolder temporary_;
};

TEST_F(Folder, SavesTheBytesItLoaded) {
  for (const auto& one : testing::cases()) {
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const auto source = sub("source");
      const auto target = sub("target");
      make_folder(one, source, dtype);
      write_file(source / "generation_config.json", "{ \"eos_token_id\":[1, 2] }\n");
      for (const bool trainable : {false, true}) {
        save_model(load_model(source, {.dtype = {}, .trainable = trainable}), target);
        const auto& name = one["name"];
        EXPECT_EQ(read_file(target / "model.safetensors"), read_file(source / "model.safetensors"))
            << name;
        EXPECT_EQ(read_file(target / "generation_config.json"),
                  read_file(source / "generation_config.json"))
            << name;
        EXPECT_EQ(Json::parse(read_file(target / "config.json")), one["config"]) << name;
      }
    }
  }
}

TEST_F(Folder, ComputesInOneTypeAndSavesInTheStoredOnes) {
  const auto& one = find_case("qwen3");
  const auto source = sub("source");
  const auto target = sub("target");
  make_folder(one, source, at::kBFloat16);
  const auto model = load_model(source, {.dtype = at::kFloat});
  EXPECT_EQ(model.decoder.dtype(), at::kFloat);
  save_model(model, target);
  EXPECT_EQ(read_file(target / "model.safetensors"), read_file(source / "model.safetensors"));
  save_model(model, target, {.dtype = at::kHalf});
  EXPECT_EQ(load_model(target).decoder.dtype(), at::kHalf);
  EXPECT_EQ(Json::parse(read_file(target / "config.json"))["dtype"], "float16");
}

TEST_F(Folder, WritesTheVersion4NameOfTheTypeWhereItWasRead) {
  const auto& one = find_case("llama_version4");
  make_folder(one, sub("source"));
  save_model(load_model(sub("source")), sub("target"), {.dtype = at::kBFloat16});
  auto expected = one["config"];
  expected["torch_dtype"] = "bfloat16";
  EXPECT_EQ(Json::parse(read_file(sub("target") / "config.json")), expected);
}

TEST_F(Folder, CutsShardsAndReadsThem) {
  const auto& one = find_case("llama");
  const auto source = sub("source");
  const auto target = sub("target");
  make_folder(one, source);
  const auto model = load_model(source);
  // Embedding and head are 96·32·4 = 12,288 bytes, the largest others 48·32·4 = 6,144.
  save_model(model, target, {.dtype = {}, .max_shard_bytes = 12'500});
  EXPECT_FALSE(fs::exists(target / "model.safetensors"));
  const auto index = Json::parse(read_file(target / "model.safetensors.index.json"));
  EXPECT_EQ(index["weight_map"]["model.embed_tokens.weight"], "model-00001-of-00007.safetensors");
  EXPECT_EQ(index["weight_map"]["lm_head.weight"], "model-00007-of-00007.safetensors");
  int64_t parameters = 0;
  for (const auto& [name, tensor] : model.decoder.tensors()) parameters += tensor.numel();
  EXPECT_EQ(index["metadata"]["total_parameters"], parameters);
  EXPECT_EQ(index["metadata"]["total_size"], 4 * parameters);
  for (const auto& entry : fs::directory_iterator(target)) {
    if (entry.path().extension() != ".safetensors") continue;
    EXPECT_LT(entry.file_size(), 14'000U) << entry.path();
  }
  const auto again = load_model(target);
  ASSERT_EQ(again.decoder.tensors().size(), model.decoder.tensors().size());
  for (size_t i = 0; i < again.decoder.tensors().size(); ++i) {
    EXPECT_TRUE(again.decoder.tensors()[i].tensor.equal(model.decoder.tensors()[i].tensor));
  }
}

// What transformers 5.24's align_special_tokens leaves of the same two files for an EOS of 3.
TEST_F(Folder, AlignsTheEosAsTransformersDoes) {
  const auto& one = find_case("llama");
  const auto source = sub("source");
  make_folder(one, source);
  struct {
    const char *config, *generation;  // as they stand in the folder
    const char *config_after, *generation_after;
  } const cases[] = {{"1", "1", "3", "[3, 1]"},
                     {"1", "[1, 2]", "3", "[3, 1, 2]"},
                     {"[1, 2]", "null", "[3, 1, 2]", "[3]"},
                     {"3", "3", "3", "3"},
                     {"[1, 3]", "[1, 3]", "[1, 3]", "[1, 3]"},
                     {"null", "1", "3", "[3, 1]"}};
  for (const auto& c : cases) {
    Model model = load_model(source);
    model.config["eos_token_id"] = Json::parse(c.config);
    const std::string text = fmt::format("{{\"eos_token_id\":{},\"top_k\":5}}", c.generation);
    model.generation_config = text;
    align_eos(model, 3);
    EXPECT_EQ(model.config["eos_token_id"], Json::parse(c.config_after)) << text;
    const Json written = Json::parse(model.generation_config);
    EXPECT_EQ(written, Json({{"eos_token_id", Json::parse(c.generation_after)}, {"top_k", 5}}))
        << text;
    const bool kept = std::string(c.generation) == c.generation_after;
    EXPECT_EQ(model.generation_config == text, kept) << text;
  }
  Model bare = load_model(source);
  bare.config.erase("eos_token_id");
  align_eos(bare, 3);
  EXPECT_EQ(bare.config["eos_token_id"], 3);
  EXPECT_TRUE(bare.generation_config.empty());
  bare.generation_config = "[";
  EXPECT_THROW(align_eos(bare, 3), UserError);
}

TEST_F(Folder, ReadsAndWritesGpt2WithoutItsPrefix) {
  const auto& one = find_case("gpt2");
  const auto source = sub("source");
  make_folder(one, source, at::kFloat, "transformer.");
  const auto model = load_model(source);
  EXPECT_EQ(model.decoder.tensors().front().name, "wte.weight");
  const auto rows = pack(ids_of(one));
  EXPECT_TRUE(score(model.decoder, rows)[1].equal(score(testing::make_decoder(one), rows)[1]));
  save_model(model, sub("target"));
  EXPECT_EQ(read_file(sub("target") / "model.safetensors"),
            read_file(source / "model.safetensors"));
}

TEST_F(Folder, ReadsTheHeadOfGptNeoxUnderBothNames) {
  const auto& one = find_case("gpt_neox");
  const auto folder = sub("source");
  write_file(folder / "config.json", one["config"].dump());
  std::vector<TensorToStore> tensors;
  for (const auto& [name, tensor] : testing::make_weights(one)) {
    tensors.push_back({name == "embed_out.weight" ? "lm_head.weight" : name, tensor, at::kFloat});
  }
  write_safetensors(folder / "model.safetensors", tensors);
  EXPECT_EQ(load_model(folder).decoder.tensors().back().name, "lm_head.weight");
}

TEST_F(Folder, TrainableTensorsAreCopiesFrozenOnesAreMapped) {
  make_folder(find_case("llama"), sub("source"));
  const auto frozen = load_model(sub("source"));
  const auto trained = load_model(sub("source"), {.dtype = {}, .trainable = true});
  // A mapped tensor does not own its bytes: its storage cannot be resized.
  EXPECT_FALSE(frozen.decoder.tensors()[0].tensor.storage().resizable());
  for (const auto& [name, tensor] : trained.decoder.tensors()) {
    EXPECT_TRUE(tensor.storage().resizable()) << name;
    at::Tensor(tensor).add_(1);
  }
  EXPECT_FALSE(trained.decoder.tensors()[0].tensor.equal(frozen.decoder.tensors()[0].tensor));
  EXPECT_TRUE(load_model(sub("source"))
                  .decoder.tensors()[0]
                  .tensor.equal(frozen.decoder.tensors()[0].tensor));
}

/// KiB of a file's maps that are in this process's memory.
int64_t resident(const fs::path& file) {
  std::ifstream maps("/proc/self/smaps");
  int64_t found = 0;
  bool own = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find('-') < line.find(' ')) own = line.ends_with(file.string());
    if (own && line.starts_with("Rss:")) found += std::stoll(line.substr(4));
  }
  return found;
}

TEST_F(Folder, AMappedModelIsReadWithoutItsFilesInMemory) {
  const auto& one = find_case("llama");
  make_folder(one, sub("source"), at::kBFloat16);
  const fs::path file = fs::canonical(sub("source") / "model.safetensors");
  const auto mapped = load_model(sub("source"));
  ASSERT_TRUE(is_mapped(mapped));
  const auto rows = pack(ids_of(one));
  const auto expected =
      at::cat(score(load_model(sub("source"), {.dtype = at::kFloat}).decoder, rows));
  score(mapped.decoder, rows);
  EXPECT_GT(resident(file), 0);
  const auto read = read_from_maps(mapped, at::kFloat);
  EXPECT_EQ(resident(file), 0);
  EXPECT_TRUE(at::cat(score(read, rows)).equal(expected));
  EXPECT_FALSE(is_mapped(load_model(sub("source"), {.dtype = at::kFloat})));
  EXPECT_FALSE(is_mapped(load_model(sub("source"), {.dtype = {}, .trainable = true})));
}

TEST_F(Folder, StartsFromScratchWithAConfigAlone) {
  auto config = find_case("llama")["config"];
  config["dtype"] = "bfloat16";
  write_file(sub("source") / "config.json", config.dump());
  const auto model =
      load_model(sub("source"), {.dtype = at::kFloat, .from_scratch = true, .seed = 3});
  EXPECT_EQ(model.decoder.dtype(), at::kFloat);
  save_model(model, sub("target"));
  EXPECT_EQ(load_model(sub("target")).decoder.dtype(), at::kBFloat16);
  expect_part(refusal(sub("source")), "use from_scratch");
}

TEST_F(Folder, NamesWhatIsMissingOrBroken) {
  expect_part(refusal(temporary_.path() / "nowhere"),
              "a model folder was expected, it does not exist");
  expect_part(refusal(sub("empty")), "config.json");
  write_file(sub("broken") / "config.json", "{\"model_type\": ");
  expect_part(refusal(sub("broken")), "JSON was expected");
  write_file(sub("pickle") / "config.json", find_case("llama")["config"].dump());
  write_file(sub("pickle") / "pytorch_model.bin", "x");
  expect_part(refusal(sub("pickle")), "pytorch_model.bin is not read");
  auto config = find_case("llama")["config"];
  config["vocab_size"] = 97;
  make_folder(find_case("llama"), sub("shape"));
  write_file(sub("shape") / "config.json", config.dump());
  const auto text = refusal(sub("shape"));
  expect_part(
      text,
      "[model.embed_tokens.weight] shape (97, 32) was expected from config.json, got (96, 32).");
  expect_part(text, "[lm_head.weight] shape (97, 32) was expected from config.json, got (96, 32).");
}

TEST_F(Folder, DistrustsTheIndex) {
  const auto folder = sub("shards");
  make_folder(find_case("llama"), sub("source"));
  save_model(load_model(sub("source")), folder, {.dtype = {}, .max_shard_bytes = 12'500});
  const auto path = folder / "model.safetensors.index.json";
  const auto good = Json::parse(read_file(path));
  const auto with = [&](const std::string& tensor, const Json& file) {
    auto index = good;
    index["weight_map"][tensor] = file;
    write_file(path, index.dump());
    return refusal(folder);
  };
  expect_part(with("lm_head.weight", "../model.safetensors"),
              "the name of a file in the same folder was expected");
  expect_part(with("lm_head.weight", "/etc/passwd"),
              "the name of a file in the same folder was expected");
  expect_part(with("lm_head.weight", 5), "the name of a file in the same folder was expected");
  expect_part(with("lm_head.weight", "model-00001-of-00007.safetensors"), "has no such tensor");
  expect_part(with("model.layers.0.self_attn.k_proj.weight", "model-00001-of-00007.safetensors"),
              "it was expected in model-00001-of-00007.safetensors");
  expect_part(with("ghost", "model-00001-of-00007.safetensors"), "has no such tensor");
  write_file(path, "[]");
  expect_part(refusal(folder), "an object with a weight_map was expected");
  write_file(path, good.dump());
  fs::remove(folder / "model-00003-of-00007.safetensors");
  expect_part(refusal(folder), "model-00003-of-00007.safetensors");
}

// Not a test of its own: writes what tools/check_saved_models.py loads in transformers.
TEST_F(Folder, LeavesSavedModelsForTransformers) {
  const char* out = std::getenv("RLHF_SAVED_MODELS");
  if (out == nullptr) GTEST_SKIP() << "RLHF_SAVED_MODELS names no folder";
  for (const auto& one : testing::cases()) {
    const auto source = sub(one["name"].get<std::string>());
    make_folder(one, source);
    const auto model = load_model(source, {.dtype = {}, .trainable = true});
    const auto base = fs::path(out) / one["name"].get<std::string>();
    fs::create_directories(base / "whole");
    fs::create_directories(base / "shards");
    save_model(model, base / "whole");
    save_model(model, base / "shards", {.dtype = {}, .max_shard_bytes = 20'000});
    write_file(base / "case.json", one.dump());
  }
}

}  // namespace
}  // namespace rlhf
