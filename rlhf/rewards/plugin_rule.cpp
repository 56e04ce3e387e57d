#include "rlhf/rewards/plugin_rule.h"

#include <dlfcn.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <utility>

#include "rlhf/core/error.h"
#include "rlhf/rewards/plugin.h"

namespace rlhf {
namespace {

constexpr size_t kMessageBytes = 1024;
using Message = std::array<char, kMessageBytes>;

/// JSON as the plugin reads it: text that is no UTF-8 has its bytes replaced.
std::string json_text(const Json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

/// What the plugin wrote, whether or not it ended its message.
std::string text_of(const Message& message) {
  const std::string text(message.data(), strnlen(message.data(), message.size()));
  return text.empty() ? "it gave no message" : text;
}

class Plugin {
 public:
  Plugin(const std::string& name, const std::string& path, const Json& parameters)
      : where_("reward_funcs." + name) {
    // A bare name would be looked for in the system's folders.
    const std::string file = std::filesystem::absolute(path).string();
    library_.reset(dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL));
    if (library_ == nullptr) refuse("a shared library was expected", dlerror());
    uint32_t (*abi)(void) = nullptr;
    find(abi, "rlhf_reward_abi");
    if (abi() != RLHF_REWARD_ABI) {
      refuse(fmt::format("a plugin of interface version {} was expected", RLHF_REWARD_ABI),
             fmt::format("{} has version {}", file, abi()));
    }
    decltype(&rlhf_reward_open) open = nullptr;
    find(open, "rlhf_reward_open");
    find(score_, "rlhf_reward_score");
    decltype(&rlhf_reward_close) close = nullptr;
    find(close, "rlhf_reward_close");
    Message message{};
    void* state = nullptr;
    if (open(json_text(parameters).c_str(), &state, message.data(), message.size()) !=
        RLHF_REWARD_OK) {
      throw UserError(where_, fmt::format("the plugin refused to start: {}.", text_of(message)),
                      "mend the parameters beside `plugin`.");
    }
    state_ = State(state, close);
  }

  std::optional<double> score(const RewardInput& input) const {
    const std::string text(input.text);
    const std::string columns = json_text(input.columns);
    const rlhf_reward_item item = {.text = text.c_str(),
                                   .text_length = text.size(),
                                   .columns = columns.c_str(),
                                   .columns_length = columns.size(),
                                   .completion_ids = input.ids.data(),
                                   .completion_length = input.ids.size(),
                                   .prompt_ids = input.prompt_ids.data(),
                                   .prompt_length = input.prompt_ids.size()};
    // A plugin that says OK and sets nothing is caught as any other number that is none.
    double reward = std::numeric_limits<double>::quiet_NaN();
    Message message{};
    const int status = score_(state_.get(), &item, &reward, message.data(), message.size());
    if (status == RLHF_REWARD_OK) return reward;
    if (status == RLHF_REWARD_DOES_NOT_APPLY) return std::nullopt;
    if (status == RLHF_REWARD_ERROR) throw Error(text_of(message));
    throw Error(fmt::format("a status from 0 to 2 was expected, the plugin returned {}", status));
  }

 private:
  struct CloseLibrary {
    void operator()(void* library) const { dlclose(library); }
  };
  /// Closes also a state that is null: the plugin may keep what it needs elsewhere.
  class State {
   public:
    State() = default;
    State(void* state, decltype(&rlhf_reward_close) close) : state_(state), close_(close) {}
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    State& operator=(State&& other) noexcept {
      std::swap(state_, other.state_);
      std::swap(close_, other.close_);
      return *this;
    }
    ~State() {
      if (close_ != nullptr) close_(state_);
    }
    void* get() const { return state_; }

   private:
    void* state_ = nullptr;
    decltype(&rlhf_reward_close) close_ = nullptr;
  };

  [[noreturn]] void refuse(const std::string& expected, const std::string& got) const {
    throw UserError(where_, fmt::format("{}, got: {}.", expected, got),
                    "build it with this program's rlhf/rewards/plugin.h (examples/reward_plugin "
                    "shows how).");
  }

  template <class Function>
  void find(Function& function, const char* symbol) const {
    function = reinterpret_cast<Function>(dlsym(library_.get(), symbol));
    if (function == nullptr) refuse(fmt::format("the function {} was expected", symbol), dlerror());
  }

  std::string where_;
  std::unique_ptr<void, CloseLibrary> library_;  // outlives the state
  decltype(&rlhf_reward_score) score_ = nullptr;
  State state_;
};

}  // namespace

RewardRule open_plugin_rule(const std::string& name, const std::string& path,
                            const Json& parameters) {
  const auto plugin = std::make_shared<const Plugin>(name, path, parameters);
  return {.name = name, .columns = {}, .score = [plugin](const RewardInput& input) {
            return plugin->score(input);
          }};
}

}  // namespace rlhf
