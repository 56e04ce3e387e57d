#include "rlhf/kernels/attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "rlhf/core/error.h"
#include "rlhf/kernels/attention_kernel.h"
#include "rlhf/kernels/attention_reference.h"

namespace rlhf {
namespace attention {
namespace {

constexpr const char* kWhere = "packed_attention";

// One thread's scratch, kept between calls: fresh pages cost more than the arithmetic of a small
// task.
template <class T>
T* scratch(size_t count) {
  struct Line {
    alignas(64) std::byte bytes[64];
  };
  static thread_local std::vector<Line> lines;
  const size_t needed = (count * sizeof(T) + sizeof(Line) - 1) / sizeof(Line);
  if (lines.size() < needed) lines.resize(needed);
  return reinterpret_cast<T*>(lines.data());
}

// Raises a flag at the end of its scope, also where an exception ends it: others wait for it.
struct Signal {
  std::atomic<bool>& flag;
  ~Signal() {
    flag.store(true, std::memory_order_release);
    flag.notify_all();
  }
};

// Calls fn(task, key head) for every pair, in order of the tasks, each on the next free thread; a
// task waits for those it names. Who runs what does not show in the result.
template <class Fn>
void run_tasks(const std::vector<Task>& tasks, int64_t key_heads, const Fn& fn) {
  const int64_t total = static_cast<int64_t>(tasks.size()) * key_heads;
  std::atomic<int64_t> next{0};
  std::unique_ptr<std::atomic<bool>[]> done(new std::atomic<bool>[static_cast<size_t>(total)]());
  const auto work = [&](int64_t, int64_t) {
    for (int64_t i = next++; i < total; i = next++) {
      const int64_t head = i % key_heads;
      const Task& task = tasks[static_cast<size_t>(i / key_heads)];
      for (const int64_t before : task.after)
        done[static_cast<size_t>(before * key_heads + head)].wait(false);
      const Signal signal{done[static_cast<size_t>(i)]};
      fn(task, head);
    }
  };
  const int64_t threads = std::min<int64_t>(total, at::get_num_threads());
  at::parallel_for(0, threads, /*grain_size=*/1, work);
}

template <class T>
View<T> view(const at::Tensor& x) {
  return {x.mutable_data_ptr<std::remove_const_t<T>>(), x.stride(0), x.stride(1)};
}

template <class T>
View<const T> const_view(const at::Tensor& x) {
  return {x.const_data_ptr<T>(), x.stride(0), x.stride(1)};
}

struct Call : torch::CustomClassHolder {
  Call(Shape the_shape, AttentionOptions the_options, Plan the_plan)
      : shape(the_shape), options(the_options), plan(std::move(the_plan)) {}

  template <class T>
  Problem<T> problem(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& out, const at::Tensor& lse) const {
    Problem<T> result;
    result.shape = shape;
    result.scale = options.scale;
    result.window = options.window;
    result.softcap = options.softcap;
    result.positions = plan.positions.data();
    result.q = const_view<T>(q);
    result.k = const_view<T>(k);
    result.v = const_view<T>(v);
    result.out = view<T>(out);
    result.lse = lse.mutable_data_ptr<T>();
    return result;
  }

  Shape shape;
  AttentionOptions options;
  Plan plan;
};

struct Result {
  at::Tensor out;  // (T, H, D)
  at::Tensor lse;  // (T, H)
};

Result forward(const Call& call, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  Result result{at::empty(q.sizes(), q.options()), at::empty({q.size(0), q.size(1)}, q.options())};
  AT_DISPATCH_FLOATING_TYPES(q.scalar_type(), kWhere, [&] {
    const auto problem = call.problem<scalar_t>(q, k, v, result.out, result.lse);
    const size_t size = forward_scratch<scalar_t>(call.shape);
    run_tasks(call.plan.forward, call.shape.key_heads, [&](const Task& task, int64_t head) {
      forward_task(problem, call.plan, task, head, scratch<scalar_t>(size));
    });
  });
  return result;
}

class PackedAttentionFunction : public torch::autograd::Function<PackedAttentionFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& q,
                            const at::Tensor& k, const at::Tensor& v,
                            const c10::intrusive_ptr<Call>& call) {
    const Result result = attention::forward(*call, q, k, v);
    ctx->save_for_backward({q, k, v, result.out, result.lse});
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    return result.out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    check(!at::GradMode::is_enabled(), kWhere,
          "a first derivative was expected, got a second one (create_graph).",
          "reference::packed_attention has derivatives of every order.");
    const auto saved = ctx->get_saved_variables();
    const auto capsule = ctx->saved_data["call"].toCapsule();
    const Call& call = static_cast<const Call&>(*capsule);
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    const at::Tensor grad_out = grads[0].stride(-1) == 1 ? grads[0] : grads[0].contiguous();
    const at::Tensor grad_q = at::empty(q.sizes(), q.options()),
                     grad_k = at::empty(k.sizes(), k.options()),
                     grad_v = at::empty(v.sizes(), v.options());
    AT_DISPATCH_FLOATING_TYPES(q.scalar_type(), kWhere, [&] {
      auto problem = call.problem<scalar_t>(q, k, v, saved[3], saved[4]);
      problem.grad_out = const_view<scalar_t>(grad_out);
      problem.grad_q = view<scalar_t>(grad_q);
      problem.grad_k = view<scalar_t>(grad_k);
      problem.grad_v = view<scalar_t>(grad_v);
      const size_t size = backward_scratch<scalar_t>(call.shape);
      run_tasks(call.plan.backward, call.shape.key_heads, [&](const Task& task, int64_t head) {
        backward_task(problem, call.plan, task, head, scratch<scalar_t>(size));
      });
    });
    return {grad_q, grad_k, grad_v, at::Tensor()};
  }
};

}  // namespace
}  // namespace attention

at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const SegmentTable& segments, const AttentionOptions& options) {
  attention::check_operands(q, k, v, segments, options);
  if (!q.is_cpu()) return reference::packed_attention(q, k, v, segments, options);
  const auto type = q.scalar_type();
  if (type != at::kFloat && type != at::kDouble) {
    return packed_attention(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat), segments, options)
        .to(type);
  }
  const attention::Shape shape{q.size(1), k.size(1), q.size(2)};
  const auto call = c10::make_intrusive<attention::Call>(
      shape, options, attention::make_plan(segments, shape, options.window));
  return attention::PackedAttentionFunction::apply(q, k, v, call);
}

}  // namespace rlhf
