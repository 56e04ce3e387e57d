/* Rewards completions that hold a word: {name: polite, plugin: libword_reward.so, word: please}.
 *   cc -O2 -shared -fPIC -I INCLUDE_FOLDER word_reward.c -o libword_reward.so
 * INCLUDE_FOLDER holds rlhf/rewards/plugin.h: the root of the sources, or PREFIX/include. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rlhf/rewards/plugin.h"

uint32_t rlhf_reward_abi(void) { return RLHF_REWARD_ABI; }

int rlhf_reward_open(const char* parameters, void** state, char* message, size_t message_size) {
  char word[64];
  const char* key = strstr(parameters, "\"word\":"); /* a real plugin would use a JSON library */
  if (key == NULL || sscanf(key, "\"word\":\"%63[^\"]\"", word) != 1) {
    snprintf(message, message_size, "`word` is missing");
    return RLHF_REWARD_ERROR;
  }
  *state = strdup(word);
  return RLHF_REWARD_OK;
}

int rlhf_reward_score(void* state, const rlhf_reward_item* item, double* reward, char* message,
                      size_t message_size) {
  (void)message, (void)message_size; /* nothing goes wrong here */
  if (item->text_length == 0) return RLHF_REWARD_DOES_NOT_APPLY;
  *reward = strstr(item->text, (const char*)state) != NULL ? 1.0 : 0.0;
  return RLHF_REWARD_OK;
}

void rlhf_reward_close(void* state) { free(state); }
