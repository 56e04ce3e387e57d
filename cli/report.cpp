// rlhf report: one HTML page about one or several runs.
#include <fmt/format.h>

#include <cstdio>

#include "cli/commands.h"
#include "cli/terminal.h"
#include "rlhf/core/error.h"
#include "rlhf/core/options_args.h"
#include "rlhf/core/options_text.h"
#include "rlhf/report/report_page.h"

namespace rlhf::cli {
namespace {

constexpr const char* kUsage =
    "Usage: rlhf report RUN [RUN ...] [--key value ...]\n\n"
    "Writes one HTML page about the run folders: curves of every metric, rewards and lengths, the "
    "time of each phase,\ncompletions to browse, the configurations and how they differ. It needs "
    "no network and opens from disk. The page's path\ngoes to standard error. Runs that still "
    "train, or were killed, can be read too.\n";

struct ReportOptions {
  std::string output;
  KeepLimits limits;
};

void declare(OptionSet& set, ReportOptions& options) {
  set.group("Report");
  set.add("output", options.output,
          "File to write; `-` is standard output. Default: report.html in the first run's folder.");
  set.add("max_completions", options.limits.completions,
          "Most completions of each run whose texts the page holds; of more, whole groups spread "
          "evenly. Histograms count all.")
      .at_least(0);
  set.add("max_text", options.limits.text_characters,
          "Most characters of a prompt or completion; longer ones are cut, and say so.")
      .at_least(1);
}

}  // namespace

int run_report(std::span<const std::string> args) {
  ReportOptions options;
  OptionSet set;
  declare(set, options);
  const ParsedArguments parsed =
      parse_arguments(set, args, {.config_file = false, .positional = "RUN"});
  if (parsed.help) {
    print_out(help_text(set, kUsage));
    return 0;
  }
  if (parsed.positional.empty()) {
    throw UserError("rlhf report", "a run folder was expected, got nothing.",
                    "write rlhf report RUN, RUN being the output_dir of a training command.");
  }
  const Terminal terminal;
  const std::vector<fs::path> folders(parsed.positional.begin(), parsed.positional.end());
  const auto runs = read_runs(folders, options.limits);
  for (const auto& run : runs) {
    for (const auto& note : run.notes) log_info("note: {}", note);
  }
  const std::string page = report_page(runs, options.limits);
  if (options.output == "-") {
    print_out(page);
    return 0;
  }
  const fs::path path =
      options.output.empty() ? folders.front() / "report.html" : fs::path(options.output);
  write_file(path, page);
  log_info("report: {}", path.string());
  return 0;
}

}  // namespace rlhf::cli
