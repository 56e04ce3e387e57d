// The fixture's reward model with its vocabulary in another order.
#pragma once

#include "rlhf/models/folder.h"
#include "sft_case.h"

namespace rlhf::testing {

/// Where the token of the tiny vocabulary (100) stands in the judge's.
inline int32_t renamed_id(int32_t id) { return (37 * id + 5) % 100; }

/// Writes it into `scratch` and returns its folder.
inline fs::path renamed_judge(const fs::path& scratch) {
  const fs::path folder = scratch / "renamed_judge";
  fs::copy(fixtures() / "preference" / "reward_model", folder);
  const auto rename = [](Json& id) { id = renamed_id(id.get<int32_t>()); };
  Json tokenizer = Json::parse(read_file(folder / "tokenizer.json"));
  for (auto& [token, id] : tokenizer["model"]["vocab"].items()) rename(id);
  for (auto& token : tokenizer["added_tokens"]) rename(token["id"]);
  write_file(folder / "tokenizer.json", tokenizer.dump());
  Model model = load_model(folder, {.dtype = at::kFloat, .trainable = true});
  for (const char* key : {"eos_token_id", "pad_token_id"}) rename(model.config[key]);
  for (const auto& [name, tensor] : model.decoder.tensors()) {
    if (!name.ends_with("embed_tokens.weight")) continue;
    const auto old = tensor.clone();
    for (int64_t id = 0; id < old.size(0); ++id)
      tensor[renamed_id(static_cast<int32_t>(id))].copy_(old[id]);
  }
  fs::remove(folder / "model.safetensors");
  save_model(model, folder);
  return folder;
}

}  // namespace rlhf::testing
