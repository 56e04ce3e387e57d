#include "rlhf/config/reference.h"

#include "rlhf/config/sft_config.h"
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
to use instead. At its default such a key is silent.

)";

}  // namespace

std::string configuration_reference_markdown() {
  SftConfig config;
  OptionSet set;
  declare(set, config);
  return std::string(kIntroduction) + "## rlhf sft\n\n" + options_markdown(set, "###");
}

Json configuration_schema() {
  SftConfig config;
  OptionSet set;
  declare(set, config);
  return options_schema(set, "rlhf sft");
}

}  // namespace rlhf
