#include "rlhf/train/setup.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>

#include "rlhf/core/error.h"
#include "rlhf/core/log.h"
#include "rlhf/core/threads.h"
#include "rlhf/kernels/peaks.h"
#include "rlhf/text/tokenizer_json.h"
#include "rlhf/train/checkpoint.h"

namespace rlhf {
namespace {

/// Files of a model folder that belong to its tokenizer.
constexpr std::array<const char*, 9> kTokenizerFiles = {"tokenizer_config.json",
                                                        "special_tokens_map.json",
                                                        "added_tokens.json",
                                                        "chat_template.jinja",
                                                        "chat_template.json",
                                                        "vocab.json",
                                                        "merges.txt",
                                                        "vocab.txt",
                                                        "tokenizer.model"};

/// The template's text from a .jinja file, or from a folder with a tokenizer.
std::string template_from(const fs::path& path) {
  if (fs::is_directory(path)) {
    if (fs::exists(path / "chat_template.jinja")) return read_file(path / "chat_template.jinja");
    const std::string text = Tokenizer::load(path).chat_template();
    if (!text.empty()) return text;
    throw UserError("chat_template_path", fmt::format("{} holds no chat template.", path.string()));
  }
  return read_file(path);
}

void replace_file(std::vector<std::pair<std::string, std::string>>& files, const std::string& name,
                  std::string bytes) {
  const auto found = std::find_if(files.begin(), files.end(),
                                  [&](const auto& file) { return file.first == name; });
  if (found == files.end()) {
    files.emplace_back(name, std::move(bytes));
  } else {
    found->second = std::move(bytes);
  }
}

DataSource source_of(const DatasetSource& part) {
  DataSource source{.path = part.path,
                    .name = {},
                    .data_dir = part.data_dir.value_or(""),
                    .data_files = part.data_files.value_or(std::vector<std::string>{}),
                    .split = part.split,
                    .reshape = {},
                    .fraction = part.fraction,
                    .weight = part.weight.value_or(1.0)};
  if (part.columns) source.reshape.select = *part.columns;
  return source;
}

std::vector<DataSource> sources_of(const DataOptions& options, const std::string& split) {
  std::vector<DataSource> sources;
  if (!options.datasets.empty()) {
    for (const auto& part : options.datasets) sources.push_back(source_of(part));
  } else {
    for (const auto& path : options.dataset_name) {
      sources.push_back(source_of({.path = path,
                                   .data_dir = {},
                                   .data_files = {},
                                   .split = split,
                                   .columns = {},
                                   .fraction = {},
                                   .weight = {}}));
    }
  }
  for (auto& source : sources) {
    for (const auto& [wanted, name] : options.dataset_columns.items())
      source.reshape.rename[wanted] = name.get<std::string>();
    if (options.dataset_text_field != "text")
      source.reshape.rename["text"] = options.dataset_text_field;
  }
  return sources;
}

/// A ratio of two speeds that the noise of a shared machine does not make.
constexpr double kClearly = 1.3;

void warn_where_bfloat16_is_slow() {
  const double wide = product_peak(at::kFloat);
  const double narrow = product_peak(at::kBFloat16);
  if (wide < kClearly * narrow) return;
  log_warning(
      "[dtype] bfloat16 was asked for; products run at {:.0f} GFLOP/s in float32 and at {:.1f} in "
      "bfloat16. HINT: float32 (dtype: float32, without bf16: true) is faster on this machine and "
      "takes more memory.",
      wide, narrow);
}

}  // namespace

int fix_threads(int64_t wanted) {
  if (const char* dynamic = std::getenv("OMP_DYNAMIC"); dynamic != nullptr &&
                                                        std::string_view(dynamic) != "false" &&
                                                        std::string_view(dynamic) != "FALSE") {
    throw UserError(
        "OMP_DYNAMIC",
        fmt::format("it is set to {}: the number of threads would change during the run.", dynamic),
        "unset it; results repeat bit for bit only on a fixed number of threads.");
  }
  const int most = std::max(64, 8 * available_cores());
  if (wanted > most) {
    throw UserError("threads",
                    fmt::format("{} is more than {} cores can use.", wanted, available_cores()),
                    fmt::format("{} at most; 0 takes all cores.", most));
  }
  const int threads = wanted > 0 ? static_cast<int>(wanted) : available_cores();
  at::set_num_threads(threads);
  set_worker_threads(threads);
  return threads;
}

at::Device choose_device(DeviceChoice choice, bool use_cpu) {
  const bool cuda = at::hasCUDA();
  if (choice == DeviceChoice::cuda && (!cuda || use_cpu)) {
    throw UserError("device",
                    use_cpu ? "cuda and use_cpu exclude each other." : "no CUDA device was found.",
                    "use device: cpu, or a libtorch built for CUDA.");
  }
  return choice != DeviceChoice::cpu && cuda && !use_cpu ? at::kCUDA : at::kCPU;
}

at::ScalarType choose_dtype(const ModelOptions& model, std::optional<bool> bf16,
                            at::Device device) {
  const bool asked = model.dtype == Dtype::bfloat16 || bf16.value_or(false);
  if (!asked && model.dtype == Dtype::float32) return at::kFloat;
  if (device.is_cuda()) return at::kBFloat16;
  if (asked) {
    static std::once_flag once;  // a run's critic asks again
    std::call_once(once, warn_where_bfloat16_is_slow);
    return at::kBFloat16;
  }
  const double wide = product_peak(at::kFloat);
  const double narrow = product_peak(at::kBFloat16);
  // Narrow weights must earn the rounding they cost.
  const bool faster = narrow > kClearly * wide;
  log_info(
      "[dtype] auto: products run at {:.0f} GFLOP/s in float32 and at {:.1f} in bfloat16: {} is "
      "used.",
      wide, narrow, faster ? "bfloat16" : "float32");
  return faster ? at::kBFloat16 : at::kFloat;
}

std::optional<at::ScalarType> torch_dtype(std::optional<Dtype> save_dtype) {
  if (!save_dtype) return std::nullopt;
  return *save_dtype == Dtype::bfloat16  ? at::kBFloat16
         : *save_dtype == Dtype::float16 ? at::kHalf
                                         : at::kFloat;
}

TextSide load_text_side(const fs::path& model_folder, const TokenizerOptions& options) {
  TextSide side{.folder = model_folder,
                .tokenizer = Tokenizer::load(model_folder),
                .chat = {},
                .template_text = {},
                .eos_token = {},
                .files = {}};
  // Unpacked where it was packed: other tools read the plain file only.
  side.files.emplace_back("tokenizer.json", read_tokenizer_json(model_folder));
  for (const char* name : kTokenizerFiles) {
    if (fs::exists(model_folder / name))
      side.files.emplace_back(name, read_file(model_folder / name));
  }
  Problems problems;
  Json config = side.tokenizer.config();
  bool changed = false;
  const auto name_token = [&](const char* key, const std::optional<std::string>& token) {
    if (!token) return;
    if (!side.tokenizer.token_to_id(*token)) {
      problems.add(key, fmt::format("{} is not a token of {}.", *token, model_folder.string()),
                   "choose a token that tokenizer.json lists.");
      return;
    }
    changed = changed || config.value(key, Json()) != Json(*token);
    config[key] = *token;
  };
  name_token("eos_token", options.eos_token);
  name_token("pad_token", options.pad_token);
  side.eos_token = options.eos_token.value_or("");
  side.template_text = side.tokenizer.chat_template();
  if (options.chat_template_path || options.chat_template) {
    side.template_text =
        options.chat_template ? *options.chat_template : template_from(*options.chat_template_path);
    replace_file(side.files, "chat_template.jinja", side.template_text);
    if (config.contains("chat_template")) {
      config.erase("chat_template");
      changed = true;
    }
  }
  problems.throw_if_any();
  if (changed) replace_file(side.files, "tokenizer_config.json", config.dump(2));
  if (!side.template_text.empty()) {
    const std::string eos = side.eos_token.empty() ? side.tokenizer.eos_token() : side.eos_token;
    const Json special = {{"bos_token", side.tokenizer.bos_token()},
                          {"eos_token", eos},
                          {"pad_token", options.pad_token.value_or(side.tokenizer.pad_token())},
                          {"unk_token", side.tokenizer.unk_token()}};
    side.chat = ChatTemplate::parse(
        side.template_text,
        options.chat_template
            ? "chat_template"
            : options.chat_template_path.value_or((model_folder / "chat_template").string()),
        special);
  }
  return side;
}

std::optional<int32_t> TextSide::eos_id() const {
  return eos_token.empty() ? tokenizer.eos_id() : tokenizer.token_to_id(eos_token);
}

void TextSide::set_pad_token(const std::string& token) {
  Json config = tokenizer.config();
  for (const auto& [name, bytes] : files) {
    if (name == "tokenizer_config.json") config = Json::parse(bytes);
  }
  config["pad_token"] = token;
  replace_file(files, "tokenizer_config.json", config.dump(2));
}

TextOptions text_options(const TextSide& text, const DataOptions& data) {
  return {.eos_token = text.eos_token,
          .on_bad_row = data.on_bad_row == BadRowPolicy::drop ? OnBadRow::drop : OnBadRow::error};
}

DataSpecs data_specs(const DataOptions& options, uint64_t seed) {
  DataSpecs specs;
  specs.train = {.sources = sources_of(options, options.dataset_train_split),
                 .test_size = options.test_split_size,
                 .part = options.test_split_size ? DataSpec::Part::train : DataSpec::Part::all,
                 .seed = seed};
  if (options.test_split_size) {
    specs.eval = specs.train;
    specs.eval->part = DataSpec::Part::test;
    return specs;
  }
  if (!options.datasets.empty()) return specs;
  DataSpec eval{.sources = {}, .test_size = {}, .part = DataSpec::Part::all, .seed = seed};
  for (auto& source : sources_of(options, options.dataset_test_split)) {
    if (fs::is_directory(source.path) && has_split(source))
      eval.sources.push_back(std::move(source));
  }
  if (!eval.sources.empty()) specs.eval = std::move(eval);
  return specs;
}

DataSpec evaluation_spec(const DataSpecs& specs, const DataOptions& options) {
  if (specs.eval) return *specs.eval;
  throw UserError("eval_strategy", "evaluation is asked for and there are no rows to evaluate on.",
                  fmt::format("give dataset_name a folder with {}.jsonl, or set test_split_size.",
                              options.dataset_test_split));
}

fs::path cache_folder(const DataOptions& options) {
  if (options.cache_dir) return *options.cache_dir;
  if (const char* base = std::getenv("XDG_CACHE_HOME"); base != nullptr && *base != '\0')
    return fs::path(base) / "rlhf";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0')
    return fs::path(home) / ".cache" / "rlhf";
  return fs::temp_directory_path() / "rlhf-cache";
}

std::optional<fs::path> checkpoint_to_resume(const TrainingOptions& options) {
  if (!options.resume_from_checkpoint || *options.resume_from_checkpoint == "false")
    return std::nullopt;
  if (*options.resume_from_checkpoint != "true") return fs::path(*options.resume_from_checkpoint);
  auto latest = latest_checkpoint(*options.output_dir);
  if (!latest && !checkpoints_of(*options.output_dir).empty()) {
    throw UserError("resume_from_checkpoint",
                    fmt::format("no checkpoint in {} is whole.", *options.output_dir),
                    "start anew with --overwrite_output_dir and without resume_from_checkpoint.");
  }
  if (!latest) {
    log_warning(
        "[resume_from_checkpoint] {} holds no whole checkpoint: the run starts from the beginning.",
        *options.output_dir);
  }
  return latest;
}

void check_output_folder(const TrainingOptions& options, bool resumes) {
  const fs::path folder = *options.output_dir;
  if (fs::exists(folder) && !fs::is_directory(folder)) {
    throw UserError("output_dir", fmt::format("{} is a file.", folder.string()),
                    "choose a folder.");
  }
  if (resumes || options.overwrite_output_dir || options.resume_from_checkpoint) return;
  if (!checkpoints_of(folder).empty() || fs::exists(folder / "trainer_state.json")) {
    throw UserError("output_dir", fmt::format("{} already holds a run.", folder.string()),
                    "go on with --resume_from_checkpoint true, replace it with "
                    "--overwrite_output_dir, or choose another.");
  }
}

uint64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace rlhf
