// rlhf plan: what a run would take of memory, before anything of it is allocated.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "cli/commands.h"
#include "cli/inference.h"
#include "cli/terminal.h"
#include "rlhf/core/error.h"
#include "rlhf/core/options_text.h"
#include "rlhf/train/memory_run.h"

namespace rlhf::cli {
namespace {

/// Keys of the command itself; all others are the method's.
struct PlanOptions {
  bool json = false;
  int64_t longest_row = 0;
  int64_t longest_prompt = 0;
  std::optional<double> scored_share;
};

void declare(OptionSet& set, PlanOptions& options) {
  set.add("json", options.json, "Print one JSON line.");
  set.add("longest_row", options.longest_row,
          "Tokens of the longest row, of a pair its prompt once and both answers; 0: what the "
          "method's limits allow.")
      .between(0, kMostLength);
  set.add("longest_prompt", options.longest_prompt,
          "Tokens of the longest prompt of methods that sample; 0: max_prompt_length, else 512.")
      .between(0, kMostLength);
  set.add("scored_share", options.scored_share,
          "Share of the tokens whose log-probability is asked for: answers, not prompts.")
      .between(0, 1);
}

struct Method {
  const char* name;
  RunMemory (*read)(std::span<const std::string> args);
};

template <class Config, Config (*read)(std::span<const std::string>, std::vector<std::string>*)>
RunMemory memory_of(std::span<const std::string> args) {
  return run_memory(read(args, nullptr));
}

constexpr std::array<Method, 8> kMethods = {{
    {"sft", memory_of<SftConfig, read_sft_config>},
    {"dpo", memory_of<DpoConfig, read_dpo_config>},
    {"kto", memory_of<KtoConfig, read_kto_config>},
    {"reward", memory_of<RewardConfig, read_reward_config>},
    {"prm", memory_of<PrmConfig, read_prm_config>},
    {"grpo", memory_of<GrpoConfig, read_grpo_config>},
    {"rloo", memory_of<RlooConfig, read_rloo_config>},
    {"ppo", memory_of<PpoConfig, read_ppo_config>},
}};

constexpr const char* kUsage =
    "Usage: rlhf plan METHOD [the method's own keys: --config FILE, --key value ...]\n\n"
    "What a run of METHOD (sft, dpo, kto, reward, prm, grpo, rloo, ppo) would take of memory: "
    "bytes "
    "of each part,\nthe largest micro-batch that fits this machine, and what each switch would "
    "save. "
    "Of models config.json alone is\nread, and no weights; docs/memory.md says what is counted.\n";

/// The arguments that are the command's own, and those that are the method's.
struct Split {
  std::vector<std::string> own;
  std::vector<std::string> others;
};
Split split(const OptionSet& set, std::span<const std::string> args) {
  Split parts;
  bool own = false;
  for (const auto& arg : args) {
    if (arg.starts_with("--")) {
      const std::string name =
          arg.substr(2, arg.find('=') == std::string::npos ? std::string::npos : arg.find('=') - 2);
      own = set.find(name) != nullptr;
    }
    (own ? parts.own : parts.others).push_back(arg);
  }
  return parts;
}

const Method& method_of(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& method : kMethods) {
    if (name == method.name) return method;
    names.emplace_back(method.name);
  }
  const std::string near = nearest_name(name, names);
  throw UserError(
      "rlhf plan", fmt::format("a method was expected ({}), got {}.", fmt::join(names, ", "), name),
      near.empty() ? "rlhf plan --help shows the use." : fmt::format("did you mean {}?", near));
}

/// No row is read and no judge asked: where nothing but those is missing, any will do.
RunMemory read_run(const Method& method, std::vector<std::string> args) {
  try {
    return method.read(args);
  } catch (const UserError& error) {
    for (const auto& problem : error.problems()) {
      if (!problem.what.ends_with("got nothing.")) continue;
      if (problem.where.ends_with("dataset_name"))
        args.insert(args.end(), {"--dataset_name", "any"});
      if (problem.where.ends_with("reward_funcs"))
        args.insert(args.end(), {"--reward_funcs", "accuracy"});
    }
  }
  return method.read(args);
}

Json to_json(const MemoryPlan& plan, const MemoryRequest& request, const MachineMemory& machine,
             int64_t largest, const std::vector<MemorySaving>& savings) {
  Json json = {{"peak_bytes", plan.bytes()},
               {"peak_phase", plan.peak().name},
               {"error", kPlanError},
               {"available_bytes", machine.available},
               {"microbatch_tokens", planned_microbatches(request).first},
               {"later_microbatch_tokens", planned_microbatches(request).others},
               {"largest_microbatch_tokens", largest},
               {"phases", Json::array()},
               {"savings", Json::object()}};
  for (const auto& phase : plan.phases) {
    Json parts = Json::object();
    for (const auto& part : phase.parts) parts[part.name] = part.bytes;
    json["phases"].push_back({{"name", phase.name}, {"bytes", phase.bytes()}, {"parts", parts}});
  }
  for (const auto& saving : savings) json["savings"][saving.set] = saving.bytes;
  return json;
}

std::string line(const std::string& name, int64_t bytes) {
  return fmt::format("{:<32} {:>12}\n", name, bytes_text(bytes));
}

std::string to_text(const MemoryPlan& plan, const MemoryRequest& request,
                    const MachineMemory& machine, int64_t largest,
                    const std::vector<MemorySaving>& savings) {
  const auto [first, others] = planned_microbatches(request);
  std::string text =
      fmt::format("largest moment: {}, micro-batches of {} tokens{}\n", plan.peak().name, first,
                  others > 0 ? fmt::format(" and then of {}", others) : "");
  for (const auto& part : plan.peak().parts)
    text += line(fmt::format("  {}", part.name), part.bytes);
  text += line("total", plan.bytes());
  for (const auto& phase : plan.phases) {
    if (phase.name != plan.peak().name)
      text += line(fmt::format("of phase {}", phase.name), phase.bytes());
  }
  text += fmt::format("\n{}", line("available", machine.available));
  text += largest > 0
              ? fmt::format("largest max_tokens_per_microbatch, and longest row, that fits: {}\n",
                            largest)
              : std::string("no micro-batch fits\n");
  if (!savings.empty()) text += "\nwould save:\n";
  for (const auto& saving : savings) text += line(fmt::format("  {}", saving.set), saving.bytes);
  return text;
}

}  // namespace

int run_plan(std::span<const std::string> args) {
  PlanOptions options;
  OptionSet set;
  declare(set, options);
  const bool help = args.empty() || std::any_of(args.begin(), args.end(), [](const auto& arg) {
                      return arg == "--help" || arg == "-h";
                    });
  if (help) {
    print_out(help_text(set, kUsage));
    return args.empty() ? 2 : 0;
  }
  const Method& method = method_of(args[0]);
  const Split parts = split(set, args.subspan(1));
  parse_arguments(set, parts.own);
  RunMemory run = read_run(method, parts.others);
  if (options.longest_prompt > 0 && run.rollout) {
    run.longest_row += options.longest_prompt - run.longest_prompt;
    run.longest_prompt = options.longest_prompt;
  }
  if (options.longest_row > 0) run.longest_row = options.longest_row;
  if (options.scored_share) run.scored_share = *options.scored_share;
  const MemoryRequest request = memory_request(run);
  const MemoryPlan plan = plan_memory(request);
  const MachineMemory machine = machine_memory();
  const int64_t largest = largest_microbatch(request, machine.available);
  const auto savings = memory_savings(run);
  print_out(options.json ? to_json(plan, request, machine, largest, savings).dump() + "\n"
                         : to_text(plan, request, machine, largest, savings));
  return 0;
}

}  // namespace rlhf::cli
