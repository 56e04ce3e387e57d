// What reward models and process reward models set up alike: a model with a score head, and the
// padding token that other tools find the last token of a row by.
#pragma once

#include "rlhf/text/pad_token.h"
#include "rlhf/train/run.h"

namespace rlhf {

/// What is to be trained.
struct ClassifierWish {
  ModelTask task = ModelTask::sequence_classification;
  int64_t labels = 1;
  double dropout = 0.0;  ///< of an adapter
};

/// The padding token of a classifier that `config` names.
PadToken choose_pad(const CommonConfig& config, const TextSide& text);

/// prepare_run() for a classifier. A padding token that no row ends with is chosen
/// (text/pad_token.h), named in the log where it is another than the tokenizer's, and written to
/// config.json and tokenizer_config.json.
Prepared prepare_classifier(CommonConfig& config, const RunMemory& memory,
                            const ClassifierWish& wish, SetupChecks& checks);

}  // namespace rlhf
