// The command line of an OptionSet: every option is a flag.
//
//   --learning_rate 2e-5   --learning_rate=2e-5   --learning-rate 2e-5
//   --packing   --packing false   --no_packing
//   --report_to tensorboard wandb   --report_to tensorboard --report_to wandb
//   --report_to '[tensorboard, wandb]'
//   --lr_scheduler_kwargs '{min_lr_rate: 0.1}'   --datasets '[{path: a.jsonl}, {path: b.jsonl}]'
//   --config run.yaml      read before the flags, wherever it stands; flags win: what they set again
//                          is not read from the file, so that it may be wrong or refused there
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/core/options.h"

namespace rlhf {

/// What to say of a key that another program reads, or of a value that another command takes, in
/// place of "unknown key" or "expected one of": `what` and `hint`, without a place. Nothing where it
/// knows no better. Keys in nested maps are asked for by their path, `a.b.c`.
using ForeignKeys = std::function<std::optional<Problem>(
    const OptionSet& set, const std::string& path, const ConfigNode& value)>;

struct ArgumentRules {
  bool config_file = true;  ///< `--config FILE` is understood
  std::string positional;   ///< what a word without a flag is (`RUN`); empty: an error
  ForeignKeys foreign{};    ///< may be empty
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
/// other flag given twice is a problem. Where `rules.foreign` knows a word `a.b=c`, or the flag of
/// other words, it takes them. Adds every problem found to `problems`.
ParsedArguments parse_arguments(const OptionSet& set, std::span<const std::string> args,
                                const ArgumentRules& rules, Problems& problems);

/// The same; throws UserError with all problems.
ParsedArguments parse_arguments(const OptionSet& set, std::span<const std::string> args,
                                const ArgumentRules& rules = {});

}  // namespace rlhf
