#include "cli/inference.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <set>

#include "cli/terminal.h"
#include "rlhf/config/foreign_keys.h"
#include "rlhf/core/error.h"
#include "rlhf/core/log.h"
#include "rlhf/core/options_text.h"
#include "rlhf/core/threads.h"
#include "rlhf/models/adapter.h"
#include "rlhf/text/stop_strings.h"
#include "rlhf/train/stop_ids.h"

namespace rlhf::cli {
namespace {

/// The schema of a prompt, and the row's `prompt` column filled from `messages`, `text` or
/// `input_ids` where it has none.
Schema as_prompt(Record& record, const Schema& schema) {
  if (schema.type == RowType::language_modelling) {
    const char* from = schema.form == RowForm::messages ? "messages"
                       : schema.form == RowForm::text   ? "text"
                                                        : "input_ids";
    record.row[schema.form == RowForm::ids ? "prompt_ids" : "prompt"] = record.at(from);
  }
  return {RowType::prompt_only, schema.form};
}

/// The folder that --base_model names. UserError where --model is no adapter's.
std::optional<fs::path> base_model(const InferenceOptions& options) {
  if (!options.base_model) return std::nullopt;
  if (!is_adapter_folder(options.model)) {
    throw UserError("--base_model", fmt::format("an adapter folder was expected as --model, {} has "
                                                "no adapter_config.json.",
                                                options.model));
  }
  return fs::path(*options.base_model);
}

LoadOptions load_options(const InferenceOptions& options, std::optional<ModelTask> task) {
  const at::Device device = choose_device(options.device, /*use_cpu=*/false);
  const ModelOptions choice{
      .model_name_or_path = {}, .dtype = options.dtype, .model_init_kwargs = {}, .save_dtype = {}};
  return {
      .dtype = choose_dtype(choice, /*bf16=*/std::nullopt, device), .device = device, .task = task};
}

}  // namespace

void declare_model(OptionSet& set, InferenceOptions& options) {
  set.group("Model");
  set.add("model", options.model,
          "Model folder (config.json, safetensors, tokenizer), or a PEFT adapter folder.");
  set.add("base_model", options.base_model,
          "Model folder of an adapter; default what its adapter_config.json names.");
  set.add("chat_template_path", options.chat_template_path,
          "A .jinja file, or a folder whose template is used.");
  set.add("dtype", options.dtype, "Type of the weights; auto measures once whether bfloat16 pays.")
      .one_of({"auto", "float32", "bfloat16"});
  set.add("device", options.device, "auto takes a CUDA device where libtorch has one.");
  set.add("threads", options.threads, "Threads; 0 takes every core this process may use.")
      .at_least(0);
  set.add("full_determinism", options.full_determinism,
          "Bitwise independence of what shares a batch, at some speed (CPU).");
}

void declare(OptionSet& set, InferenceOptions& options) {
  declare_model(set, options);
  set.group("Data");
  set.add("data", options.data, "JSONL file (plain or gzip), or a folder of them.");
  set.add("split", options.split, "Which files of a data folder are read.");
}

void declare_sampler(OptionSet& set, SamplingFlags& flags) {
  SamplingOptions& options = flags.options;
  set.group("Sampling");
  set.add("temperature", options.temperature, "0 is greedy.").at_least(0).written("T");
  set.add("top_k", options.top_k, "Keep the k most likely tokens; 0 keeps all.").at_least(0);
  set.add("top_p", options.top_p, "Keep the smallest set of tokens with this mass.").between(0, 1);
  set.add("min_p", options.min_p,
          "Keep tokens with this share of the most likely one's probability.")
      .between(0, 1);
  set.add("repetition_penalty", options.repetition_penalty,
          "Divides logits of tokens seen already; 1 is none.")
      .above(0);
  set.add("max_new_tokens", options.max_new_tokens, "Longest completion, in tokens.").at_least(1);
  set.add("stop", flags.stop, "Texts that end a completion; its text ends before them.");
  set.add("seed", flags.seed, "Of the random streams, one a sample.").at_least(0);
  set.add("cache_gib", flags.cache_gib, "Most memory for keys and values, in GiB.").above(0);
}

void declare(OptionSet& set, SamplingFlags& flags) {
  declare_sampler(set, flags);
  set.add("num_generations", flags.options.num_generations, "Samples a prompt.").at_least(1);
  set.add("ignore_eos", flags.options.ignore_eos,
          "Go on past end-of-text tokens, to max_new_tokens.");
  set.add("prompt_column", flags.prompt_column,
          "Column to read as `prompt`; default prompt, messages or text.");
  set.add("max_rows", flags.max_rows, "Most completions that grow together.").at_least(1);
}

std::optional<ParsedArguments> read_arguments(const OptionSet& set,
                                              std::span<const std::string> args,
                                              const std::string& usage,
                                              const std::vector<std::string>& required) {
  Problems problems;
  ParsedArguments parsed = parse_arguments(
      set, args, {.config_file = true, .positional = {}, .foreign = explain_foreign}, problems);
  if (parsed.help) {
    print_out(help_text(set, usage + "\n"));
    return std::nullopt;
  }
  for (const std::string& name : required) {
    if (set.find(name)->get() == Json("")) {
      problems.add("--" + name, "expected a path, got nothing.",
                   fmt::format("write --{} PATH", name));
    }
  }
  problems.throw_if_any();
  for (const std::string& note : parsed.notes) {
    log_info("{}", note);
  }
  return parsed;
}

void refuse_unused(const ParsedArguments& parsed, std::span<const std::string_view> keys,
                   std::string_view why) {
  Problems problems;
  for (const std::string_view key : keys) {
    if (const auto place = parsed.places.find(std::string(key)); place != parsed.places.end()) {
      problems.add(place->second, fmt::format("{} does not use it.", why), "leave it out.");
    }
  }
  problems.throw_if_any();
}

DecoderConfig model_config(const InferenceOptions& options) {
  const fs::path folder = options.model;
  if (!is_adapter_folder(folder)) return load_decoder_config(folder);
  DecoderConfig config = load_decoder_config(base_of_adapter(folder, base_model(options)));
  config.task = load_lora_config(folder).task;
  return config;
}

LoadedModel load(const InferenceOptions& options, std::optional<ModelTask> task) {
  if (options.full_determinism) {
    ::setenv("MKL_CBWR", "AUTO,STRICT", /*overwrite=*/1);  // read once, before the first product
  }
  fix_threads(options.threads);
  const LoadOptions how = load_options(options, task);
  const fs::path folder = options.model;
  const auto base = base_model(options);
  Model model =
      is_adapter_folder(folder) ? load_adapted_model(folder, how, base) : load_model(folder, how);
  std::optional<TextSide> text;
  for (const fs::path& own : {folder, model.folder}) {  // an adapter's folder may lack a tokenizer
    if (text || !(fs::exists(own / "tokenizer.json") || fs::exists(own / "tokenizer.json.gz"))) {
      continue;
    }
    text = load_text_side(own, {.chat_template_path = options.chat_template_path});
  }
  LoadedModel loaded{.model = std::move(model), .text = std::move(text), .stop_ids = {}};
  loaded.stop_ids = find_stop_ids(loaded.model, loaded.text ? &loaded.text->tokenizer : nullptr);
  return loaded;
}

Model load_other(const InferenceOptions& options, const std::string& folder, ModelTask task) {
  const LoadOptions how = load_options(options, task);
  return is_adapter_folder(folder) ? load_adapted_model(folder, how) : load_model(folder, how);
}

void check_output(const std::optional<std::string>& output, const InferenceOptions& options) {
  std::error_code none;  // where either does not exist
  if (!output || !fs::equivalent(*output, options.data, none)) return;
  throw UserError("--output",
                  fmt::format("another file than --data was expected, got {}.", *output),
                  "name a new file.");
}

DataSpec data_spec(const InferenceOptions& options) {
  if (fs::is_directory(options.data))
    log_info("[data] of {} the split {} is read.", options.data, options.split);
  DataSource source;
  source.path = options.data;
  source.split = options.split;
  DataSpec spec;
  spec.sources = {source};
  return spec;
}

void check_content(const Content& content, const std::string& where, const Model& model) {
  const int64_t vocab = model.decoder.config().vocab_size;
  if (content.largest < vocab && content.least >= 0) return;
  throw UserError(where,
                  fmt::format("ids below the vocabulary's {} were expected, got {}.", vocab,
                              content.least < 0 ? content.least : content.largest),
                  "tokenizer and model must belong together.");
}

void check_ids(const Record& record, std::span<const int32_t> ids, const Model& model) {
  if (ids.empty()) {
    throw UserError(record.where, "at least one token was expected, got none.");
  }
  const int64_t vocab = model.decoder.config().vocab_size;
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab) {
      throw UserError(
          record.where,
          fmt::format("ids below the vocabulary's {} were expected, got {}.", vocab, id),
          "tokenizer and model must belong together.");
    }
  }
}

void check_length(const std::string& where, int64_t tokens, const Model& model) {
  const DecoderConfig& config = model.decoder.config();
  if (config.rope.width > 0 || tokens <= config.context) return;
  throw UserError(
      where,
      fmt::format("rows of at most {} tokens were expected, got {}.", config.context, tokens),
      "the model has no positions beyond that.");
}

void for_each_row(
    const RowSet& rows,
    const std::function<void(int64_t row, Record& record, const Schema& schema)>& fn) {
  std::vector<std::vector<Problem>> found(static_cast<size_t>(rows.rows()));
  parallel_pieces(rows.rows(), /*grain=*/64, [&](int64_t begin, int64_t end) {
    RowSet::Cursor cursor(rows);
    for (int64_t row = begin; row < end; ++row) {
      Record record;
      auto& problems = found[static_cast<size_t>(row)];
      if (const auto problem = cursor.read(row, record)) {
        problems.push_back(*problem);
        continue;
      }
      try {
        fn(row, record, rows.schema(row));
      } catch (const UserError& error) {
        problems = error.problems();
        for (Problem& problem : problems) {
          if (problem.where.find(record.where) == std::string::npos) {
            problem.where = fmt::format("{}: {}", record.where, problem.where);
          }
        }
      }
    }
  });
  Problems problems;
  for (const auto& row : found) {
    for (const Problem& problem : row) {
      problems.add(problem);
    }
  }
  problems.throw_if_any();
}

std::vector<PromptRow> read_prompts(const LoadedModel& loaded, const InferenceOptions& options,
                                    const std::optional<std::string>& prompt_column) {
  DataSpec spec = data_spec(options);
  if (prompt_column) {
    spec.sources.front().reshape.rename["prompt"] = *prompt_column;
  }
  const std::vector<RowType> wanted = {RowType::prompt_only, RowType::language_modelling};
  const RowSet set(spec, wanted);
  std::optional<Encoder> encoder;
  if (loaded.text) {
    encoder.emplace(loaded.text->tokenizer, loaded.chat(), EncodeOptions{});
  }
  std::vector<PromptRow> rows(static_cast<size_t>(set.rows()));
  for_each_row(set, [&](int64_t row, Record& record, const Schema& found) {
    PromptRow& out = rows[static_cast<size_t>(row)];
    const Schema schema = as_prompt(record, found);
    if (schema.form == RowForm::ids) {
      out.prompt.ids = record.ids("prompt_ids");
    } else if (encoder) {
      out.prompt.ids = encoder->prompt(record, schema);
    } else {
      throw UserError(record.where,
                      "token ids were expected, since the model folder has no tokenizer.",
                      "give the rows `prompt_ids`, or copy tokenizer.json into the folder.");
    }
    out.prompt.key = static_cast<uint64_t>(row);
    out.prompt.where = record.where;
    out.record = std::move(record);
  });
  return rows;
}

void sample(const LoadedModel& loaded, const std::vector<PromptRow>& rows,
            const SamplingFlags& flags,
            const std::function<void(size_t row, std::vector<TextCompletion>& samples)>& done) {
  SamplingOptions options = flags.options;
  options.seed = static_cast<uint64_t>(flags.seed);
  options.stop_ids = loaded.stop_ids;
  if (!flags.stop.empty() && !loaded.text) {
    throw UserError(
        "--stop",
        "a model folder with a tokenizer was expected: stop strings are looked for in text.");
  }
  std::vector<Prompt> prompts;
  for (const PromptRow& row : rows) {
    prompts.push_back(row.prompt);
  }
  const auto count = static_cast<size_t>(options.num_generations);
  std::vector<std::vector<TextCompletion>> samples(rows.size());
  std::vector<size_t> missing(rows.size(), count);
  std::map<std::pair<int64_t, int64_t>, StopStrings> watches;
  size_t next = 0;  // the first row not given to `done` yet
  GenerateCallbacks callbacks;
  if (!flags.stop.empty()) {
    callbacks.on_token = [&](const TokenEvent& event) {
      const auto [watch, fresh] =
          watches.try_emplace({event.prompt, event.sample}, loaded.text->tokenizer, flags.stop);
      return watch->second.push(event.ids.back());
    };
  }
  callbacks.on_finished = [&](int64_t prompt, int64_t sample_index, const Completion& completion) {
    auto& own = samples[static_cast<size_t>(prompt)];
    own.resize(count);
    TextCompletion& out = own[static_cast<size_t>(sample_index)];
    out.completion = completion;
    if (const auto watch = watches.find({prompt, sample_index}); watch != watches.end()) {
      out.text = watch->second.cut_text();
      watches.erase(watch);
    }
    if (loaded.text && !out.text) {
      out.text = loaded.text->tokenizer.decode(completion.ids, /*skip_special_tokens=*/true);
    }
    --missing[static_cast<size_t>(prompt)];
    for (; next < rows.size() && missing[next] == 0; ++next) {
      done(next, samples[next]);
      samples[next] = {};
    }
  };
  Engine engine(loaded.model.decoder,
                {.cache_bytes = static_cast<int64_t>(flags.cache_gib * 1073741824.0),
                 .max_rows = flags.max_rows});
  engine.generate(prompts, options, callbacks);
  log_info("[generate] {} prompt tokens, {} new ones in {} steps, up to {} rows together.",
           engine.stats().prefilled_tokens, engine.stats().sampled_tokens,
           engine.stats().decode_steps, engine.stats().peak_rows);
}

Json to_json(std::span<const float> values) {
  Json list = Json::array();
  for (const float value : values) {
    char text[32];
    const auto end =
        std::to_chars(text, text + sizeof(text), value).ptr;  // shortest that reads back
    double number = 0.0;
    std::from_chars(text, end, number);
    list.push_back(number);
  }
  return list;
}

Json to_json(const TextCompletion& sample) {
  Json out = Json::object();
  if (sample.text) {
    out["text"] = *sample.text;
  }
  out["ids"] = sample.completion.ids;
  out["logprobs"] = to_json(sample.completion.logprobs);
  if (!sample.completion.sampling_logprobs.empty()) {
    out["sampling_logprobs"] = to_json(sample.completion.sampling_logprobs);
  }
  out["finish_reason"] = name(sample.completion.finish_reason);
  return out;
}

JsonLines::JsonLines(std::optional<std::string> path) : path_(path.value_or("")), file_(stdout) {
  if (path) {
    file_ = std::fopen(path_.c_str(), "w");
    if (file_ == nullptr) {
      throw_write_error(path_, errno);
    }
  }
}

JsonLines::~JsonLines() {
  if (file_ == nullptr || file_ == stdout) return;
  const bool empty = std::ftell(file_) == 0;
  std::fclose(file_);
  // What failed before its first line leaves no file that looks like a result.
  std::error_code ignored;
  if (empty && fs::is_regular_file(path_, ignored)) fs::remove(path_, ignored);
}

void JsonLines::fail_to_write() const {
  throw_write_error(path_.empty() ? "standard output" : path_, errno);
}

void JsonLines::write(const Json& row) {
  const std::string line = row.dump() + "\n";
  if (std::fwrite(line.data(), 1, line.size(), file_) != line.size() || std::fflush(file_) != 0) {
    fail_to_write();
  }
}

void JsonLines::finish() {
  std::FILE* file = std::exchange(file_, nullptr);
  if ((file == stdout ? std::fflush(file) : std::fclose(file)) != 0) {
    fail_to_write();
  }
}

}  // namespace rlhf::cli
