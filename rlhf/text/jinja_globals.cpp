// The functions every template can call.
#include <fmt/format.h>

#include <ctime>
#include <memory>
#include <utility>

#include "rlhf/text/jinja_methods.h"

namespace rlhf::jinja {
namespace {

struct Lambda : Function {
  std::function<Value(Run&, Args&)> body;
  Value call(Run& run, Args& args) override { return body(run, args); }
};

Value make_range(Run&, Args& args) {
  if (args.positional.empty() || args.positional.size() > 3 || !args.named.empty()) {
    throw Fault{"range takes one to three integers.", ""};
  }
  int64_t bounds[3] = {0, 0, 1};
  for (size_t i = 0; i < args.positional.size(); ++i)
    bounds[i] = require_int(args.positional[i], "a bound of range");
  if (args.positional.size() == 1) std::swap(bounds[0], bounds[1]);
  const auto [start, stop, step] = bounds;
  if (step == 0) throw Fault{"the step of range is zero.", ""};
  std::vector<Value> out;
  bool overflow = false;
  for (int64_t at = start; !overflow && (step > 0 ? at < stop : at > stop);
       overflow = __builtin_add_overflow(at, step, &at)) {
    if (static_cast<int64_t>(out.size()) == kMaxRange) {
      throw Fault{fmt::format("a range of more than {} items.", kMaxRange), ""};
    }
    out.push_back(Value::integer(at));
  }
  const std::string label = step == 1 ? fmt::format("range({}, {})", start, stop)
                                      : fmt::format("range({}, {}, {})", start, stop, step);
  return Value::list(std::move(out), Form::range, label);
}

Value make_dict(Run&, Args& args) {
  if (args.positional.size() > 1) throw Fault{"dict takes at most one positional argument.", ""};
  auto dict = std::make_shared<Dict>();
  for (const Value& from : args.positional) {
    if (from.is(Type::dict)) {
      for (const auto& [key, value] : from.as_dict().items) dict->set(key, value);
      continue;
    }
    for (const Value& pair : iterate(from)) {
      const std::vector<Value> parts = iterate(pair);
      if (parts.size() != 2) throw Fault{"dict needs pairs of key and value.", ""};
      dict->set(parts[0], parts[1]);
    }
  }
  for (const auto& [name, value] : args.named) dict->set(Value::string(name), value);
  return Value::of(std::move(dict));
}

Value time_now(Run& run, Args& args) {
  const auto given = args.bind("strftime_now", {"format"}, 1);
  const std::string& format = require_text(*given[0], "the format of strftime_now");
  if (format.empty()) return Value::string("");
  const std::tm now = run.clock()();
  const size_t room = 256 + 64 * format.size();
  require_text_size(room);
  std::string out(room, '\0');
  out.resize(std::strftime(out.data(), out.size(), format.c_str(), &now));
  return Value::string(std::move(out));
}

Value make_joiner(Run&, Args& args) {
  const auto given = args.bind("joiner", {"sep"}, 0);
  const Value separator = given[0] ? *given[0] : Value::string(", ");
  return make_function("joiner", [separator, used = false](Run&, Args&) mutable {
    return std::exchange(used, true) ? separator : Value::string("");
  });
}

}  // namespace

Value make_function(std::string name, std::function<Value(Run&, Args&)> body) {
  auto made = std::make_shared<Lambda>();
  made->name = std::move(name);
  made->body = std::move(body);
  return Value::of(std::static_pointer_cast<Function>(made));
}

Value find_global(std::string_view name) {
  if (name == "range") return make_function("range", make_range);
  if (name == "dict") return make_function("dict", make_dict);
  if (name == "namespace")
    return make_function("namespace", [](Run& run, Args& args) { return run.new_namespace(args); });
  if (name == "strftime_now") return make_function("strftime_now", time_now);
  if (name == "joiner") return make_function("joiner", make_joiner);
  if (name == "raise_exception") {
    return make_function("raise_exception", [](Run&, Args& args) -> Value {
      const auto given = args.bind("raise_exception", {"message"}, 1);
      throw Fault{fmt::format("the template refuses this conversation: {}", to_text(*given[0])),
                  ""};
    });
  }
  return Value();
}

}  // namespace rlhf::jinja
