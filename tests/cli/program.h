// The program from outside: its exit code and what it writes.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/core/json.h"
#include "tests/models/temporary_folder.h"

namespace rlhf::testing {

struct ProgramRun {
  int code = 0;
  std::vector<Json> lines;  ///< of standard output
  std::string text;         ///< all of it where it is no JSON: messages
};

inline std::vector<Json> parse_lines(const std::string& text) {
  std::vector<Json> lines;
  std::istringstream all(text);
  for (std::string line; std::getline(all, line);) lines.push_back(Json::parse(line));
  return lines;
}

class ProgramTest : public ::testing::Test {
 protected:
  /// Runs the program with `arguments`; its encoded rows are kept in this test's own folder.
  ProgramRun run(const std::string& arguments, bool messages = false) {
    const std::string command =
        fmt::format("XDG_CACHE_HOME={} {} {} --threads 1 {}", temporary_.path().string(),
                    RLHF_PROGRAM, arguments, messages ? "2>&1" : "2>/dev/null");
    std::FILE* pipe = ::popen(command.c_str(), "r");
    std::array<char, 4096> piece{};
    ProgramRun outcome;
    while (const size_t got = std::fread(piece.data(), 1, piece.size(), pipe)) {
      outcome.text.append(piece.data(), got);
    }
    outcome.code = WEXITSTATUS(::pclose(pipe));
    if (messages) return outcome;
    outcome.lines = parse_lines(outcome.text);
    return outcome;
  }

  /// The program refuses, and says `part`.
  void expect_refusal(const std::string& arguments, const std::string& part) {
    const ProgramRun outcome = run(arguments, /*messages=*/true);
    EXPECT_EQ(outcome.code, 2) << arguments;
    EXPECT_NE(outcome.text.find(part), std::string::npos)
        << "expected " << part << "\ngot " << outcome.text;
  }

  std::string path(const std::string& name) { return (temporary_.path() / name).string(); }

  std::string write(const std::string& name, const std::vector<Json>& rows) {
    std::string text;
    for (const Json& row : rows) text += row.dump() + "\n";
    write_file(path(name), text);
    return path(name);
  }

  TemporaryFolder temporary_;
};

}  // namespace rlhf::testing
