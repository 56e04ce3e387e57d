/* A plugin that does as its parameters say; ABI and WITHOUT_SCORE make other libraries of it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rlhf/rewards/plugin.h"

#ifndef ABI
#define ABI RLHF_REWARD_ABI
#endif

static char parameters_text[256];
static int opened;

uint32_t rlhf_reward_abi(void) { return ABI; }

int rlhf_reward_open(const char* parameters, void** state, char* message, size_t message_size) {
  if (strstr(parameters, "refuse") != NULL) {
    snprintf(message, message_size, "no %s", parameters);
    return RLHF_REWARD_ERROR;
  }
  ++opened;
  snprintf(parameters_text, sizeof(parameters_text), "%s", parameters);
  *state = parameters_text;
  return RLHF_REWARD_OK;
}

#ifndef WITHOUT_SCORE
/* The text says what to do. */
int rlhf_reward_score(void* state, const rlhf_reward_item* item, double* reward, char* message,
                      size_t message_size) {
  if (strcmp(item->text, "nan") == 0) {
    *reward = NAN;
  } else if (strcmp(item->text, "error") == 0) {
    snprintf(message, message_size, "cannot read %s", item->columns);
    return RLHF_REWARD_ERROR;
  } else if (strcmp(item->text, "endless") == 0) {
    memset(message, 'x', message_size);
    return RLHF_REWARD_ERROR;
  } else if (strcmp(item->text, "skip") == 0) {
    return RLHF_REWARD_DOES_NOT_APPLY;
  } else if (strcmp(item->text, "status") == 0) {
    return 17;
  } else if (strcmp(item->text, "parameters") == 0) {
    *reward = strcmp((const char*)state, "{\"scale\":2.5,\"names\":[\"a\"]}") == 0;
  } else if (strcmp(item->text, "opened") == 0) {
    *reward = opened;
  } else if (strcmp(item->text, "sums") == 0) { /* every field of the item has a part */
    *reward = (double)(item->text_length + 10 * item->columns_length);
    for (size_t i = 0; i < item->completion_length; ++i)
      *reward += 1000.0 * item->completion_ids[i];
    for (size_t i = 0; i < item->prompt_length; ++i) *reward += 1e6 * item->prompt_ids[i];
  } /* else: OK without a reward */
  return RLHF_REWARD_OK;
}
#endif

void rlhf_reward_close(void* state) {
  if (state == parameters_text) --opened;
}
