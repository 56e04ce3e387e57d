// The page of `rlhf report`: one HTML file that needs no network.
//
// Data stands in it as JSON in a <script type="application/json">, every `<` written as \u003c, so
// that no text of a completion can end the element. The page's own files (page/) and Chart.js are
// embedded at build time.
#pragma once

#include <string>
#include <vector>

#include "rlhf/core/json.h"
#include "rlhf/report/run_record.h"

namespace rlhf {

/// What the page's scripts read; page/model.js says what each field is for.
Json report_data(const std::vector<RunRecord>& runs, const KeepLimits& limits);

/// JSON that may stand inside any HTML element. Bytes that are not UTF-8 become U+FFFD.
std::string json_for_html(const Json& data);

/// The whole page.
std::string report_page(const std::vector<RunRecord>& runs, const KeepLimits& limits);

}  // namespace rlhf
