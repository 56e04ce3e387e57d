#include "rlhf/report/report_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>

#include "report_assets.h"
#include "rlhf/report/histogram.h"

namespace rlhf {
namespace {

/// Seven digits: more than a screen shows, and half the bytes.
Json shown_number(double value) {
  if (!std::isfinite(value)) return nullptr;
  return std::strtod(fmt::format("{:.7g}", value).c_str(), nullptr);
}

Json numbers(const std::vector<double>& values) {
  Json list = Json::array();
  for (const double value : values) list.push_back(shown_number(value));
  return list;
}

/// The metrics of a line share their steps, so these stand once.
class Axes {
 public:
  size_t add(const std::vector<int64_t>& steps) {
    const auto found = std::find(axes_.begin(), axes_.end(), steps);
    if (found != axes_.end()) return static_cast<size_t>(found - axes_.begin());
    axes_.push_back(steps);
    return axes_.size() - 1;
  }
  Json json() const { return axes_; }

 private:
  std::vector<std::vector<int64_t>> axes_;
};

Json completions_data(const CompletionLog& log) {
  if (!log.present) return nullptr;
  return {{"total", log.steps.size()},
          {"judges", log.judges},
          {"prompts", log.prompts},
          {"kept", log.kept}};
}

Json run_data(const RunRecord& run, Axes& axes) {
  Json metrics = Json::array();
  for (const auto& series : run.metrics) {
    metrics.push_back({{"name", series.name},
                       {"axis", axes.add(series.steps)},
                       {"values", numbers(series.values)}});
  }
  Json config = Json::array();
  for (const auto& [key, value] : run.config) config.push_back(Json::array({key, value}));
  return {{"name", run.name},
          {"folder", run.folder.string()},
          {"notes", run.notes},
          {"metrics", std::move(metrics)},
          {"config", std::move(config)},
          {"completions", completions_data(run.completions)}};
}

Json histogram_data(const std::vector<RunRecord>& runs) {
  const Histograms histograms = make_histograms(runs);
  Json quantities = Json::array();
  for (const auto& quantity : histograms.quantities) {
    Json counts = Json::array();
    for (const auto& run : quantity.runs)
      counts.push_back({{"run", run.run}, {"counts", run.counts}});
    quantities.push_back({{"name", quantity.name},
                          {"low", numbers(quantity.bins.low)},
                          {"high", numbers(quantity.bins.high)},
                          {"runs", std::move(counts)}});
  }
  return {{"first_step", histograms.first_step},
          {"last_steps", histograms.last_steps},
          {"quantities", std::move(quantities)}};
}

std::string html_text(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '&') {
      escaped += "&amp;";
    } else if (c == '<') {
      escaped += "&lt;";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

/// `frame` with each `<!--insert NAME-->` replaced by the text of that name.
std::string filled(std::string_view frame, const std::map<std::string, std::string>& texts) {
  constexpr std::string_view kOpen = "<!--insert ";
  constexpr std::string_view kClose = "-->";
  std::string page;
  for (size_t at = frame.find(kOpen); at != std::string_view::npos; at = frame.find(kOpen)) {
    const size_t end = frame.find(kClose, at);
    page += frame.substr(0, at);
    page += texts.at(std::string(frame.substr(at + kOpen.size(), end - at - kOpen.size())));
    frame.remove_prefix(end + kClose.size());
  }
  return page.append(frame);
}

std::string script(std::string_view text) { return fmt::format("<script>\n{}\n</script>", text); }

}  // namespace

Json report_data(const std::vector<RunRecord>& runs, const KeepLimits& limits) {
  Axes axes;
  Json list = Json::array();
  for (const auto& run : runs) list.push_back(run_data(run, axes));
  return {{"runs", std::move(list)},
          {"axes", axes.json()},
          {"histograms", histogram_data(runs)},
          {"limits",
           {{"completions", limits.completions}, {"text_characters", limits.text_characters}}}};
}

std::string json_for_html(const Json& data) {
  const std::string text =
      data.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
  std::string safe;
  safe.reserve(text.size() + text.size() / 64);
  for (const char c : text) {
    if (c == '<') {
      safe += "\\u003c";  // only ever inside a string
    } else {
      safe += c;
    }
  }
  return safe;
}

std::string report_page(const std::vector<RunRecord>& runs, const KeepLimits& limits) {
  namespace assets = report_assets;
  std::string scripts;
  for (const auto text :
       {assets::chart_js(), assets::page_model_js(), assets::page_curves_js(),
        assets::page_histograms_js(), assets::page_completions_js(), assets::page_main_js()}) {
    scripts += script(text) + "\n";
  }
  return filled(assets::page_html(),
                {{"style", fmt::format("<style>\n{}</style>", assets::page_css())},
                 {"license", html_text(assets::chart_js_license())},
                 {"data", fmt::format("<script id=\"data\" type=\"application/json\">{}</script>",
                                      json_for_html(report_data(runs, limits)))},
                 {"scripts", scripts}});
}

}  // namespace rlhf
