// A judge behind HTTP: `reward_funcs: {name: my_reward, url: "http://host:port/path"}`.
//
// Every question is the body of one POST and its answer the body of the response, in the JSON of
// external_judge.h (Content-Type: application/json, status 200). Questions are on their way as soon
// as they are submitted, a connection each.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "rlhf/rewards/external_judge.h"

namespace rlhf {

/// The judge at `url`, of which at most `connections` >= 1 questions are asked at once; each may
/// take `timeout` > 0 seconds from when it is sent. A question that waits for a connection is not
/// under way yet, so collect() returns within timeout · ⌈questions / connections⌉, whatever the
/// service does.
///
/// UserError where the address cannot be one, or is https and the program was built without TLS.
/// Nothing is sent before the first question: a service that is not there is a failure of the
/// items. The destructor breaks off what is under way and waits for that.
std::unique_ptr<ExternalJudge> open_http_judge(const std::string& url, int64_t connections,
                                               double timeout);

}  // namespace rlhf
