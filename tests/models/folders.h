// Model folders made by the tests' own hand, and what is said of broken ones.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "rlhf/core/error.h"
#include "rlhf/models/folder.h"
#include "rlhf/models/safetensors.h"
#include "tests/models/cases.h"

namespace rlhf::testing {

/// A model folder of one case as transformers would have written it, by the test's own hand.
inline void make_folder(const Json& one, const fs::path& folder, at::ScalarType dtype = at::kFloat,
                        const std::string& drop_prefix = "") {
  write_file(folder / "config.json", one["config"].dump(2));
  std::vector<TensorToStore> tensors;
  for (const auto& [name, tensor] : make_weights(one)) {
    const bool drop = !drop_prefix.empty() && name.starts_with(drop_prefix);
    tensors.push_back({drop ? name.substr(drop_prefix.size()) : name, tensor, dtype});
  }
  write_safetensors(folder / "model.safetensors", tensors);
}

inline std::string refusal(const fs::path& folder, const LoadOptions& options = {}) {
  try {
    load_model(folder, options);
    return "accepted";
  } catch (const UserError& error) {
    return error.what();
  }
}

inline void expect_part(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "expected " << part << "\ngot " << text;
}

}  // namespace rlhf::testing
