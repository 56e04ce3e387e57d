#include "rlhf/kernels/attention_kernel.h"

// Not built for SVE and RVV, whose vectors have no size at compile time while tiles are arrays of
// vectors (Arm falls back to NEON), nor for SSSE3, to spare a build of what no machine in use
// needs.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV | HWY_SSSE3)

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "rlhf/kernels/attention_kernel.cpp"
#include "hwy/foreach_target.h"  // before all that is built once per target
#include "hwy/highway.h"
#include "rlhf/kernels/attention_backward-inl.h"
#include "rlhf/kernels/attention_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rlhf::attention {
namespace HWY_NAMESPACE {

void forward_float(const Problem<float>& problem, const Plan& plan, const Task& task,
                   int64_t key_head, float* scratch) {
  ForwardTask<float>(problem, plan, task, key_head, scratch).run();
}

void forward_double(const Problem<double>& problem, const Plan& plan, const Task& task,
                    int64_t key_head, double* scratch) {
  ForwardTask<double>(problem, plan, task, key_head, scratch).run();
}

void backward_float(const Problem<float>& problem, const Plan& plan, const Task& task,
                    int64_t key_head, float* scratch) {
  BackwardTask<float>(problem, plan, task, key_head, scratch).run();
}

void backward_double(const Problem<double>& problem, const Plan& plan, const Task& task,
                     int64_t key_head, double* scratch) {
  BackwardTask<double>(problem, plan, task, key_head, scratch).run();
}

}  // namespace HWY_NAMESPACE
}  // namespace rlhf::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rlhf::attention {

HWY_EXPORT(forward_float);
HWY_EXPORT(forward_double);
HWY_EXPORT(backward_float);
HWY_EXPORT(backward_double);

template <>
size_t forward_scratch<float>(const Shape& shape) {
  return ForwardBuffers<float>(shape, Arena<float>(nullptr)).used;
}
template <>
size_t forward_scratch<double>(const Shape& shape) {
  return ForwardBuffers<double>(shape, Arena<double>(nullptr)).used;
}
template <>
size_t backward_scratch<float>(const Shape& shape) {
  return BackwardBuffers<float>(shape, Arena<float>(nullptr)).used;
}
template <>
size_t backward_scratch<double>(const Shape& shape) {
  return BackwardBuffers<double>(shape, Arena<double>(nullptr)).used;
}

void forward_task(const Problem<float>& problem, const Plan& plan, const Task& task,
                  int64_t key_head, float* scratch) {
  HWY_DYNAMIC_DISPATCH(forward_float)(problem, plan, task, key_head, scratch);
}
void forward_task(const Problem<double>& problem, const Plan& plan, const Task& task,
                  int64_t key_head, double* scratch) {
  HWY_DYNAMIC_DISPATCH(forward_double)(problem, plan, task, key_head, scratch);
}
void backward_task(const Problem<float>& problem, const Plan& plan, const Task& task,
                   int64_t key_head, float* scratch) {
  HWY_DYNAMIC_DISPATCH(backward_float)(problem, plan, task, key_head, scratch);
}
void backward_task(const Problem<double>& problem, const Plan& plan, const Task& task,
                   int64_t key_head, double* scratch) {
  HWY_DYNAMIC_DISPATCH(backward_double)(problem, plan, task, key_head, scratch);
}

}  // namespace rlhf::attention
#endif  // HWY_ONCE
