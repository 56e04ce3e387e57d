/* A reward as a shared library: four functions in plain C, for rlhf grpo.
 *
 *   reward_funcs: {name: my_reward, plugin: path/libmy.so, anything: 3}
 *
 * The library is opened once, before anything is written; then it is asked for one completion after
 * another, never for two at once, on the thread that samples: what is slow belongs into a worker or
 * behind HTTP (docs/rewards.md). No exception may leave a function. This header stands alone and is
 * C99 and C++; examples/reward_plugin/ is a whole plugin.
 */
#ifndef RLHF_REWARDS_PLUGIN_H
#define RLHF_REWARDS_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define RLHF_REWARD_EXPORT __attribute__((visibility("default")))
#else
#define RLHF_REWARD_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** Version of this interface. It grows whenever a library built against an older header could no
 *  longer be used. */
#define RLHF_REWARD_ABI 1

/** A completion to be judged. Everything is lent for the call. Texts are UTF-8 and end with a zero
 *  that their length does not count. */
typedef struct rlhf_reward_item {
  const char* text;    /**< the completion, without special tokens, cut before a stop string */
  size_t text_length;  /**< bytes */
  const char* columns; /**< the data row, a JSON object */
  size_t columns_length;
  const int32_t* completion_ids; /**< stop token included */
  size_t completion_length;      /**< ids */
  const int32_t* prompt_ids;     /**< null where the caller does not say */
  size_t prompt_length;
} rlhf_reward_item;

/** What a call came to. */
enum {
  RLHF_REWARD_OK = 0,
  RLHF_REWARD_DOES_NOT_APPLY = 1, /**< the completion has no reward of this name */
  RLHF_REWARD_ERROR = 2           /**< the message says why */
};

/** RLHF_REWARD_ABI of the header that the library was built with. */
RLHF_REWARD_EXPORT uint32_t rlhf_reward_abi(void);

/** Prepares the reward. `parameters` is a JSON object, zero-terminated: the keys of the map without
 *  `name` and `plugin`. `*state` is null and may be set to what the other calls shall get. Returns
 *  RLHF_REWARD_OK, or RLHF_REWARD_ERROR with a message of at most `message_size` bytes, its zero
 *  included, and nothing left to close. */
RLHF_REWARD_EXPORT int rlhf_reward_open(const char* parameters, void** state, char* message,
                                        size_t message_size);

/** Judges one completion: sets `*reward`, a finite number, and returns RLHF_REWARD_OK; or returns
 *  RLHF_REWARD_DOES_NOT_APPLY, or RLHF_REWARD_ERROR with a message: then this completion is left out
 *  and the run goes on. */
RLHF_REWARD_EXPORT int rlhf_reward_score(void* state, const rlhf_reward_item* item, double* reward,
                                         char* message, size_t message_size);

/** Frees what open made. */
RLHF_REWARD_EXPORT void rlhf_reward_close(void* state);

#ifdef __cplusplus
}
#endif

#endif
