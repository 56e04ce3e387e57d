# Chart.js, which draws the curves of `rlhf report`. It is embedded at build time and never part of this repository.
#   RLHF_CHART_JS          chart.min.js of Chart.js 3.9 (Debian: libjs-chart.js; npm: chart.js@3.9.1, dist/chart.min.js)
#   RLHF_CHART_JS_LICENSE  its licence text, which the page carries; looked for beside the file and in Debian's place
find_file(RLHF_CHART_JS chart.min.js PATH_SUFFIXES share/javascript/chart.js)
if(NOT EXISTS "${RLHF_CHART_JS}")
  message(FATAL_ERROR "[cmake] chart.min.js of Chart.js 3.9 was expected, got ${RLHF_CHART_JS}. HINT: run `make setup` (Debian: "
                      "apt-get install libjs-chart.js), or pass -DRLHF_CHART_JS=<chart.min.js>.")
endif()
file(READ "${RLHF_CHART_JS}" head LIMIT 200)
if(NOT head MATCHES "Chart\\.js v3\\.9")
  message(FATAL_ERROR "[cmake] Chart.js 3.9 was expected, ${RLHF_CHART_JS} does not name it in its first line. HINT: pass "
                      "-DRLHF_CHART_JS=<chart.min.js> of 3.9.")
endif()
get_filename_component(folder "${RLHF_CHART_JS}" DIRECTORY)
find_file(RLHF_CHART_JS_LICENSE NAMES LICENSE.md LICENSE copyright
          PATHS "${folder}" "${folder}/.." /usr/share/doc/libjs-chart.js NO_DEFAULT_PATH)
if(NOT RLHF_CHART_JS_LICENSE)
  message(FATAL_ERROR "[cmake] the licence of ${RLHF_CHART_JS} was expected beside it, none was found. HINT: pass "
                      "-DRLHF_CHART_JS_LICENSE=<file>.")
endif()
