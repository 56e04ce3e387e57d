// How a process that computes is set up: memory, idle threads, standard streams.
#pragma once

namespace rlhf::cli {

/// Call it first in main. Fresh pages are dear, so they are kept: those of tensors by
/// kernels/tensor_memory.h, all others by mimalloc. And idle threads sleep,
/// which halves the harm of a busy neighbour, but for some microseconds first: while a token is
/// sampled they are wanted again hundreds of times. The libraries read this when they load: so the
/// process starts itself once more. What the environment sets already stays. A standard stream that
/// is closed becomes /dev/null.
void prepare_process(char** argv);

}  // namespace rlhf::cli
