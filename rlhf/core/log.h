// The log sink. The library says what it does through here and nowhere else; the program decides
// where it goes.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <string_view>

namespace rlhf {

enum class LogLevel { debug, info, warning };

using LogSink = std::function<void(LogLevel, std::string_view message)>;

/// Replaces the sink (none at first: silence) and returns the one before. Not to be called while
/// others log.
LogSink set_log_sink(LogSink sink);

/// Sends one message; safe from several threads, in any order.
void log(LogLevel level, std::string_view message);

template <class... Args>
void log_info(fmt::format_string<Args...> text, Args&&... args) {
  log(LogLevel::info, fmt::format(text, std::forward<Args>(args)...));
}

/// For a likely mistake; the message says what to do.
template <class... Args>
void log_warning(fmt::format_string<Args...> text, Args&&... args) {
  log(LogLevel::warning, fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace rlhf
