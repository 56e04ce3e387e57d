#include "rlhf/train/classifier_setup.h"

#include "rlhf/core/error.h"
#include "rlhf/core/log.h"

namespace rlhf {
namespace {

/// config.json of the model that will be loaded; unreadable ones are load_model's to report.
Json model_config(const CommonConfig& config) {
  fs::path folder = *config.model.model_name_or_path;
  if (is_adapter_folder(folder)) folder = base_of_adapter(folder);
  const fs::path file = folder / "config.json";
  if (!fs::exists(file)) return Json::object();
  Json parsed = Json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  return parsed.is_object() ? parsed : Json::object();
}

}  // namespace

PadToken choose_pad(const CommonConfig& config, const TextSide& text) {
  return choose_pad_token(text.tokenizer, model_config(config),
                          {.pad_token = config.tokenizer.pad_token});
}

Prepared prepare_classifier(CommonConfig& config, const RunMemory& memory,
                            const ClassifierWish& wish, SetupChecks& checks) {
  std::optional<PadToken> pad;
  Prepared prepared = prepare_run(
      config, memory,
      [&](const TextSide* text) {
        PolicyRequest request{
            .task = wish.task, .labels = wish.labels, .adapter_dropout = wish.dropout};
        if (text == nullptr) return request;
        pad = choose_pad(config, *text);
        request.pad_id = pad->id;
        return request;
      },
      checks);
  if (pad && pad->replaced && prepared.text) {
    log_info("[pad_token] {} (id {}) is the padding token: {}.", pad->text, pad->id, pad->reason);
    prepared.text->set_pad_token(pad->text);
  }
  return prepared;
}

}  // namespace rlhf
