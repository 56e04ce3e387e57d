#include "rlhf/text/post_processor.h"

#include <algorithm>

#include "rlhf/text/tokenizer_file.h"

namespace rlhf {
namespace {

bool valid_id(const Json& id) { return id.is_number_integer() && id >= 0 && id <= kMaxTokenId; }

}  // namespace

void PostProcessor::read(const JsonFields& part, int depth) {
  const std::string type = part.required_text("type");
  if (depth > kMaxDepth) {
    part.problem(fmt::format("nests more than {} levels deep.", kMaxDepth));
  } else if (type == "Sequence") {
    for (const JsonFields& one : part.list("processors")) {
      read(one, depth + 1);
    }
  } else if (type == "TemplateProcessing") {
    read_template(part);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    read_pair(part);
  } else if (type != "ByteLevel" && !type.empty()) {
    part.problem(fmt::format(
        "`{}` is no post-processor known here; known are TemplateProcessing, BertProcessing, "
        "RobertaProcessing, ByteLevel, Sequence.",
        type));
  }
}

void PostProcessor::read_template(const JsonFields& part) {
  const Json* const specials = part.find("special_tokens");
  std::vector<Item> step;
  for (const JsonFields& one : part.list("single")) {
    if (one.find("Sequence") != nullptr) {
      step.push_back({true, {}});
      continue;
    }
    const Json* const special = one.require("SpecialToken");
    if (special == nullptr) {
      continue;
    }
    const std::string name =
        JsonFields(*special, one.where() + ".SpecialToken", one.problems()).required_text("id");
    const Json* ids = nullptr;
    if (specials != nullptr && specials->is_object() && specials->contains(name) &&
        (*specials)[name].is_object()) {
      const Json& entry = (*specials)[name];
      ids = entry.contains("ids") && entry["ids"].is_array() ? &entry["ids"] : nullptr;
    }
    if (ids == nullptr || !std::all_of(ids->begin(), ids->end(), valid_id)) {
      one.problem(fmt::format("`special_tokens` gives no valid ids for `{}`.", name));
      continue;
    }
    step.push_back({false, ids->get<std::vector<int32_t>>()});
  }
  steps_.push_back(std::move(step));
}

void PostProcessor::read_pair(const JsonFields& part) {
  const auto id = [&](std::string_view key) -> std::vector<int32_t> {
    const Json* const pair = part.require(key);
    if (pair == nullptr) {
      return {};
    }
    if (!pair->is_array() || pair->size() != 2 || !valid_id((*pair)[1])) {
      part.problem(fmt::format("`{}` must be [token, id], got {}.", key, pair->dump()));
      return {};
    }
    return {(*pair)[1].get<int32_t>()};
  };
  steps_.push_back({{false, id("cls")}, {true, {}}, {false, id("sep")}});
}

void PostProcessor::apply(std::vector<int32_t>& ids) const {
  for (const std::vector<Item>& step : steps_) {
    std::vector<int32_t> out;
    for (const Item& item : step) {
      const std::vector<int32_t>& part = item.text ? ids : item.ids;
      out.insert(out.end(), part.begin(), part.end());
    }
    ids = std::move(out);
  }
}

}  // namespace rlhf
