// Where a run's reference comes from, as its options, its adapter and its checkpoint decide.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rlhf/config/common_config.h"
#include "rlhf/config/ref_model_options.h"
#include "rlhf/train/policy.h"
#include "rlhf/train/reference.h"
#include "rlhf/train/run.h"

namespace rlhf {

/// The references of a run; absent where its loss needs none.
struct References {
  std::optional<Reference> train;
  std::optional<Reference> eval;
  std::shared_ptr<Model> moving;  ///< the model behind both that follows the policy (TR-DPO)

  /// After `step` updates: mixes the policy in where it is time.
  void follow(const Policy& policy, const RefModelOptions& options, int64_t step) const;
};

/// UserError where `ref_model_name_or_path` does not hold a language model of the policy's
/// vocabulary.
void check_reference_folder(const RefModelOptions& options, const Policy& policy);

/// `fingerprint` of a data set and which of its rows are taken, in which order.
std::string fingerprint_of_rows(const std::string& fingerprint, const std::vector<int64_t>& rows);

class ReferenceMaker {
 public:
  ReferenceMaker(const CommonConfig& config, const RefModelOptions& options, Policy& policy,
                 TrainRun& run, const TrainHooks& hooks)
      : config_(config), options_(options), policy_(policy), run_(run), hooks_(hooks) {}

  /// Whether log-probabilities are computed once, before the first step.
  bool tabulates() const;

  /// Makes a table over `items` and sets `reference` to it; `rows` (sorted) are the rows of the
  /// data set that stand behind the items. False when a stop was asked for.
  bool tabulate(const ReferenceItems& items, const std::vector<int64_t>& rows,
                std::optional<Reference>& reference);

  /// References that answer as they are asked, for both data sets; log-probabilities at
  /// `temperature`.
  References live(double temperature = 1.0);

 private:
  /// Calls `use` with the reference's model as it is at the run's start.
  template <class Use>
  void with_model(Use use);
  Model load_reference() const;
  /// The model's files as they are, where all of them hold one type and the reference never moves:
  /// what Reference::from_maps() takes. Nothing on a device, or for a model so small that nothing is
  /// gained.
  std::optional<Model> map_reference() const;
  /// The policy's adapter that stands for the reference (-1: none, the base); nothing where the
  /// reference is a model of its own.
  std::optional<int> adapter() const;

  const CommonConfig& config_;
  const RefModelOptions& options_;
  Policy& policy_;
  TrainRun& run_;
  const TrainHooks& hooks_;
};

}  // namespace rlhf
