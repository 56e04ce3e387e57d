// One command's configuration, from the command line to the checked struct: what sft_config.h and
// its siblings offer by name, made from their declare(), resolve() and validate().
#pragma once

#include <span>
#include <string>
#include <vector>

#include "rlhf/config/foreign_keys.h"
#include "rlhf/core/options_args.h"
#include "rlhf/core/options_text.h"

namespace rlhf {

/// A configuration's options bound to a copy that holds `values`, while the declared defaults stay
/// those of the command.
template <class Config>
class BoundOptions {
 public:
  BoundOptions() { declare(set_, config_); }
  explicit BoundOptions(const Config& values) : BoundOptions() { config_ = values; }

  Config& config() { return config_; }
  const OptionSet& set() const { return set_; }

 private:
  Config config_;
  OptionSet set_;
};

/// Reads `--config FILE` and flags, resolves and checks. Throws UserError with all problems.
template <class Config>
Config read_config(std::span<const std::string> args, std::vector<std::string>* notes) {
  BoundOptions<Config> options;
  Problems problems;
  ParsedArguments parsed = parse_arguments(
      options.set(), args, {.config_file = true, .positional = {}, .foreign = explain_foreign},
      problems);
  resolve(options.config(), &parsed.notes);
  Problems found;
  validate(options.config(), found);
  parsed.add_located(found, problems);
  problems.throw_if_any();
  if (notes != nullptr) *notes = std::move(parsed.notes);
  return std::move(options.config());
}

/// `--help` of the command `name`; `purpose` is one sentence.
template <class Config>
std::string config_help(std::string_view name, std::string_view purpose) {
  return help_text(BoundOptions<Config>().set(),
                   fmt::format("rlhf {} --config run.yaml [--key value ...]\n{}\n"
                               "Every key is also a flag; flags win over the file. Booleans: "
                               "--use_peft, --use_peft false, --no_use_peft.\n"
                               "Lists: several words. Nested keys: YAML or JSON text.\n",
                               name, purpose));
}

template <class Config>
std::string config_yaml(const Config& config) {
  return options_yaml(BoundOptions<Config>(config).set());
}

template <class Config>
std::string config_table(const Config& config) {
  return options_table(BoundOptions<Config>(config).set());
}

}  // namespace rlhf
