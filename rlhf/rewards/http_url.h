// Addresses of HTTP services.
#pragma once

#include <string>

namespace rlhf {

/// `http://host:port/path?query`, taken apart.
struct HttpUrl {
  bool secure = false;  ///< https
  std::string host;     ///< name or address, without the brackets of IPv6
  int port = 80;        ///< where none is written: 80, or 443 with https
  std::string path;     ///< with its query; at least `/`
};

/// UserError for anything else, a user's name or a fragment included.
HttpUrl read_http_url(const std::string& url);

}  // namespace rlhf
