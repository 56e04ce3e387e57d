// The command line of an OptionSet: every option is a flag.
//
//   --learning_rate 2e-5   --learning_rate=2e-5   --learning-rate 2e-5
//   --packing   --packing false   --no_packing
//   --report_to tensorboard wandb   --report_to tensorboard --report_to wandb
//   --report_to '[tensorboard, wandb]'
//   --lr_scheduler_kwargs '{min_lr_rate: 0.1}'   --datasets '[{path: a.jsonl}, {path: b.jsonl}]'
//   --config run.yaml      read before the flags, wherever it stands; flags win
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "rlhf/core/options.h"

namespace rlhf {

struct ArgumentRules {
  bool config_file = true;  ///< `--config FILE` is understood
  std::string positional;   ///< what a word without a flag is (`RUN`); empty: an error
};

struct ParsedArguments {
  bool help = false;  ///< `--help` or `-h`: nothing was read, the caller prints help_text()
  std::vector<std::string> config_files;  ///< as given
  std::vector<std::string> positional;
  std::vector<std::string> notes;             ///< keys that were accepted or renamed, for the log
  std::map<std::string, std::string> places;  ///< where a key was last set: `run.yaml:12 seed`

  /// Adds `found`, the problems of checks between keys, each `where` being a key or a path below
  /// one, with the place where that key was set.
  void add_located(const Problems& found, Problems& problems) const;
};

/// Reads `args` (without the program's and the command's name) into the members bound to `set`.
/// Defaults, then the configuration files in order, then the flags. A list given twice grows; any
/// other flag given twice is a problem. Adds every problem found to `problems`.
ParsedArguments parse_arguments(const OptionSet& set, std::span<const std::string> args,
                                const ArgumentRules& rules, Problems& problems);

/// The same; throws UserError with all problems.
ParsedArguments parse_arguments(const OptionSet& set, std::span<const std::string> args,
                                const ArgumentRules& rules = {});

}  // namespace rlhf
