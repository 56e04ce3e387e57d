#include "rlhf/rewards/http_url.h"

#include <algorithm>
#include <string_view>

#include "rlhf/core/error.h"
#include "rlhf/rewards/ascii.h"

namespace rlhf {
namespace {

constexpr int kMaxPort = 65535;

[[noreturn]] void refuse(const std::string& url) {
  throw UserError("reward_funcs",
                  fmt::format("the address of a service was expected as `url`, got \"{}\".", url),
                  "write http://host:port/path.");
}

bool is_host_name(std::string_view host) {
  return !host.empty() && std::all_of(host.begin(), host.end(), [](char c) {
    return is_digit(c) || is_letter(c) || c == '.' || c == '-' || c == '_';
  });
}

bool is_ipv6(std::string_view host) {
  return host.find(':') != std::string_view::npos &&
         host.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos;
}

/// 0 where it is none.
int port_of(std::string_view digits) {
  int port = 0;
  for (const char c : digits) {
    if (!is_digit(c)) return 0;
    port = std::min(port * 10 + (c - '0'), kMaxPort + 1);
  }
  return port > kMaxPort ? 0 : port;
}

}  // namespace

HttpUrl read_http_url(const std::string& url) {
  constexpr std::string_view kPlain = "http://";
  constexpr std::string_view kSecure = "https://";
  HttpUrl parts;
  parts.secure = url.starts_with(kSecure);
  if (!parts.secure && !url.starts_with(kPlain)) refuse(url);
  const std::string_view rest =
      std::string_view(url).substr((parts.secure ? kSecure : kPlain).size());
  const size_t end = std::min(rest.find_first_of("/?"), rest.size());
  const std::string_view authority = rest.substr(0, end);
  parts.path = rest.substr(end);
  if (!parts.path.starts_with('/')) parts.path.insert(size_t{0}, size_t{1}, '/');
  const auto outside_paths = [](char c) { return c <= ' ' || c > '~' || c == '#'; };
  if (std::any_of(parts.path.begin(), parts.path.end(), outside_paths)) refuse(url);

  const bool bracketed = authority.starts_with('[');
  const size_t host_end =
      std::min(bracketed ? authority.find(']') : authority.find(':'), authority.size());
  parts.host = authority.substr(bracketed ? 1 : 0, host_end - (bracketed ? 1 : 0));
  if (bracketed ? host_end == authority.size() || !is_ipv6(parts.host) : !is_host_name(parts.host))
    refuse(url);
  const std::string_view port = authority.substr(host_end + (bracketed ? 1 : 0));
  parts.port = parts.secure ? 443 : 80;
  if (!port.empty()) {
    if (port.front() != ':') refuse(url);
    parts.port = port_of(port.substr(1));
    if (parts.port == 0) refuse(url);
  }
  return parts;
}

}  // namespace rlhf
