#include "rlhf/config/reference.h"

#include "rlhf/config/commands.h"
#include "rlhf/config/common_config.h"
#include "rlhf/config/inert_keys.h"
#include "rlhf/core/options_text.h"

namespace rlhf {
namespace {

constexpr const char* kIntroduction = R"(# Configuration

Written by the program from the declarations in `rlhf/config`; do not edit. To write it again after a change, run the
test `config` with `RLHF_WRITE_GOLDENS=1`.

A configuration is YAML or JSON, flat but for what is nested below; names and defaults are TRL 1.16's. Every key is
also a flag: `--learning_rate 2e-5`, `--learning_rate=2e-5`, `--packing`, `--packing false`, `--no_packing`,
`--report_to tensorboard wandb`, `--lr_scheduler_kwargs '{min_lr_rate: 0.1}'`. Defaults come first, then `--config FILE`,
then flags. Numbers may be in quotes, and `1e-5` is a number. There is no interpolation and no environment variable.

Every problem is reported at once, with its line: an unknown key (with the nearest name), a key set twice, a value of the
wrong type or out of range, keys that contradict each other. A key of TRL or transformers that has no meaning here is
accepted and answered with a note that says why; one that would change the result and is not offered is refused with what
to use instead. At its default such a key is silent. A key that belongs to another command, or that what else is set leaves
without a use, is an error.

`configuration.schema.json` beside this page describes a file of any command; of one command it is
`configuration.schema.json#/$defs/dpo`.

)";

/// What all commands share.
struct SharedOptions {
  SharedOptions() {
    declare_model_and_data(set, config, MethodTraits{});
    declare_training(set, config);
  }

  CommonConfig config;
  OptionSet set;
};

/// Where a command starts from other values than the shared tables say.
std::string own_defaults(const CommandOptions& options, const OptionSet& shared) {
  std::string text;
  for (const auto& option : shared.options()) {
    const Json& value = options.all->find(option->name)->default_value;
    if (value == option->default_value) continue;
    text += fmt::format("{}`{}: {}`", text.empty() ? "" : ", ", option->name, yaml_flow(value));
  }
  return text.empty() ? "" : fmt::format("Its own defaults: {}.\n\n", text);
}

std::string keys_of_one_command() {
  std::string text =
      "## Keys of some commands\n\nAny other command refuses them and says where they belong.\n\n"
      "| key | commands |\n|---|---|\n";
  for (const auto& [name, methods] : method_keys()) {
    text += fmt::format("| `{}` | {} |\n", name, methods);
  }
  return text;
}

Json reference_to(const std::string& definition) { return {{"$ref", "#/$defs/" + definition}}; }

}  // namespace

std::string configuration_reference_markdown() {
  const SharedOptions shared;
  std::string text = std::string(kIntroduction) + "## Every command\n\n" +
                     options_markdown(shared.set, "###") + "\n";
  for (const auto& options : training_commands()) {
    text += fmt::format("## rlhf {}\n\n{}{}\n", options.name, own_defaults(options, shared.set),
                        options_markdown(*options.own, "###"));
  }
  return text + keys_of_one_command();
}

Json configuration_schema() {
  Json definitions = Json::object();
  Json any = Json::array();
  definitions["elsewhere"] = {{"enum", Json::array({nullptr})},
                              {"description", "An option of another command."}};
  const Json shared = options_schema(SharedOptions().set, "")["properties"];
  for (const auto& [key, schema] : shared.items()) definitions["shared." + key] = schema;
  for (const auto& options : training_commands()) {
    Json schema = options_schema(*options.all, "");
    schema["title"] = "rlhf " + options.name;
    for (auto& [key, property] : schema["properties"].items()) {
      const auto found = shared.find(key);
      const InertKey* inert = options.all->find_inert(key);
      if (inert != nullptr && inert->status == InertKey::Status::elsewhere) {
        property = reference_to("elsewhere");
      } else if (found != shared.end() && *found == property) {
        property = reference_to("shared." + key);
      }
    }
    definitions[options.name] = std::move(schema);
    any.push_back(reference_to(options.name));
  }
  return {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
          {"title", "A configuration of rlhf"},
          {"anyOf", any},
          {"$defs", definitions}};
}

}  // namespace rlhf
