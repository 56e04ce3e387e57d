// Attention over packed segments beside the stock CPU flash kernel called segment by segment; with
// soft-cap, which that one lacks, beside the dense form. Operations are counted over visible pairs
// of tokens only, 2 products forward and 5 backward; for a shared prompt both forms are credited
// with what the shared form needs.
#include "rlhf/kernels/attention.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <tuple>

#include "bench/kernels/bench.h"
#include "rlhf/kernels/peaks.h"

namespace rlhf::bench {
namespace {

// Sums of up to 4,096 products in two orders, 6e-8 each; gradients sum twice.
constexpr double kTolerance = 2e-5;

struct Workload {
  std::string name;
  SegmentTable segments;
  double softcap = 0.0;

  int64_t tokens() const { return segments.back().begin + segments.back().length; }
  AttentionOptions options() const { return {0.125, /*window=*/0, softcap}; }

  /// A multiply-add of every visible pair and channel.
  double product() const {
    double pairs = 0;
    for (const Segment& s : segments) {
      const auto n = static_cast<double>(s.length);
      pairs += n * (n + 1) / 2;
      if (s.prefix >= 0)
        pairs += n * static_cast<double>(segments[static_cast<size_t>(s.prefix)].length);
    }
    return pairs * static_cast<double>(kHeads * kHeadDim) * 2;
  }
};

void append(SegmentTable& segments, int64_t length, int64_t prefix = -1) {
  const int64_t begin = segments.empty() ? 0 : segments.back().begin + segments.back().length;
  segments.push_back({begin, length, prefix});
}

// 64 lengths of 60 to 260 that sum to 10,231.
SegmentTable mixed_segments() {
  SegmentTable segments;
  std::mt19937 random(7);
  int64_t left = 10231;
  for (int64_t rows = 64; rows > 0; --rows) {
    const int64_t even_share = left / rows;
    const int64_t spread = static_cast<int64_t>(random() % 201) - 100;
    const int64_t length = rows == 1 ? left : std::clamp<int64_t>(even_share + spread, 60, 260);
    append(segments, length);
    left -= length;
  }
  return segments;
}

SegmentTable even_segments(int64_t tokens) {
  SegmentTable segments;
  for (int64_t left = tokens; left > 0; left -= 150) append(segments, std::min<int64_t>(left, 150));
  return segments;
}

SegmentTable shared_segments() {
  SegmentTable segments;
  append(segments, 1000);
  for (int64_t answer = 0; answer < 16; ++answer) append(segments, 100, /*prefix=*/0);
  return segments;
}

struct Operands {
  at::Tensor q, k, v, grad_out;

  explicit Operands(const Workload& w)
      : q(at::randn({w.tokens(), kHeads, kHeadDim})),
        k(at::randn({w.tokens(), kKeyHeads, kHeadDim})),
        v(at::randn({w.tokens(), kKeyHeads, kHeadDim})),
        grad_out(at::randn({w.tokens(), kHeads, kHeadDim})) {}
};

// The stock kernel on each segment; an answer repeats its prompt and leaves the prompt's own
// outputs unused.
class Stock {
 public:
  Stock(const Workload& w, const Operands& x) : w_(w), x_(x) {}

  Tensors forward() {
    const auto out = at::empty_like(x_.q);
    passes_.clear();
    for (const Segment& s : w_.segments) {
      Pass pass{heads_first(s, x_.q), heads_of_keys(s, x_.k), heads_of_keys(s, x_.v), {}, {}};
      std::tie(pass.out, pass.lse) = at::_scaled_dot_product_flash_attention_for_cpu(
          pass.q, pass.k, pass.v, 0.0, /*is_causal=*/true, std::nullopt, w_.options().scale);
      own_rows(s, out).copy_(pass.out.squeeze(0).transpose(0, 1).slice(0, before(s)));
      passes_.push_back(std::move(pass));
    }
    return {out};
  }

  /// Of the last forward.
  Tensors backward() const {
    const auto grad_q = at::zeros_like(x_.q), grad_k = at::zeros_like(x_.k),
               grad_v = at::zeros_like(x_.v);
    for (size_t i = 0; i < passes_.size(); ++i) {
      const Segment& s = w_.segments[i];
      const Pass& pass = passes_[i];
      auto grad = heads_first(s, x_.grad_out);
      if (before(s) > 0) grad.slice(2, 0, before(s)).zero_();
      const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          grad, pass.q, pass.k, pass.v, pass.out, pass.lse, 0.0, /*is_causal=*/true, std::nullopt,
          w_.options().scale);
      add_rows(s, grad_q, dq);
      add_rows(s, grad_k, dk);
      add_rows(s, grad_v, dv);
    }
    return {grad_q, grad_k, grad_v};
  }

 private:
  struct Pass {
    at::Tensor q, k, v, out, lse;  // (1, H, tokens, D), lse without D
  };

  const Segment& prompt(const Segment& s) const {
    return w_.segments[static_cast<size_t>(s.prefix)];
  }
  int64_t before(const Segment& s) const { return s.prefix < 0 ? 0 : prompt(s).length; }
  static at::Tensor own_rows(const Segment& s, const at::Tensor& x) {
    return x.narrow(0, s.begin, s.length);
  }

  at::Tensor heads_first(const Segment& s, const at::Tensor& x) const {
    const auto rows =
        s.prefix < 0 ? own_rows(s, x) : at::cat({own_rows(prompt(s), x), own_rows(s, x)});
    return rows.transpose(0, 1).unsqueeze(0);
  }
  at::Tensor heads_of_keys(const Segment& s, const at::Tensor& x) const {
    return heads_first(s, x).repeat_interleave(kHeads / kKeyHeads, 1);
  }

  void add_rows(const Segment& s, const at::Tensor& to, const at::Tensor& from) const {
    const auto tokens = from.squeeze(0).unflatten(0, {to.size(1), -1}).sum(1).transpose(0, 1);
    own_rows(s, to).add_(tokens.slice(0, before(s)));
    if (s.prefix >= 0) own_rows(prompt(s), to).add_(tokens.slice(0, 0, before(s)));
  }

  Workload w_;
  Operands x_;
  std::vector<Pass> passes_;
};

using Form = decltype(&packed_attention);

Call forward_call(const Workload& w, const Operands& x, Form form) {
  return [=] { return Tensors{form(x.q, x.k, x.v, w.segments, w.options())}; };
}

Call backward_call(const Workload& w, const Operands& x, Form form) {
  const Tensors leaves{x.q.detach().requires_grad_(), x.k.detach().requires_grad_(),
                       x.v.detach().requires_grad_()};
  const auto out = form(leaves[0], leaves[1], leaves[2], w.segments, w.options());
  return [=] { return torch::autograd::grad({out}, leaves, {x.grad_out}, /*retain_graph=*/true); };
}

using MakeCall = decltype(&forward_call);

Call stock_call(const Workload& w, const Operands& x, bool forward) {
  const auto stock = std::make_shared<Stock>(w, x);
  if (forward) return [stock] { return stock->forward(); };
  stock->forward();
  return [stock] { return stock->backward(); };
}

// Seconds of one call in those of the other, least of several in turn.
double cost_ratio(const Call& one, const Call& other) {
  double seconds = 1e9, other_seconds = 1e9;
  for (int round = 0; round < 5; ++round) {
    seconds = std::min(seconds, best_seconds(1, one));
    other_seconds = std::min(other_seconds, best_seconds(1, other));
  }
  return seconds / other_seconds;
}

Workload even2600() { return {"even2600", even_segments(2600)}; }

void add_pass(const Workload& w, bool forward) {
  const MakeCall make = forward ? &forward_call : &backward_call;
  add({fmt::format("attention/{}/{}", w.name, forward ? "forward" : "backward"),
       operations(w.product() * (forward ? 2 : 5)), kTolerance, [=] {
         const Operands x(w);
         Pair pair{make(w, x, &packed_attention), w.softcap > 0.0
                                                      ? make(w, x, &reference::packed_attention)
                                                      : stock_call(w, x, forward)};
         if (w.segments.back().prefix >= 0) {
           const Call even = make(even2600(), Operands(even2600()), &packed_attention);
           pair.figure = {"over_even2600",
                          [even, kernel = pair.kernel] { return cost_ratio(kernel, even); }};
         }
         return pair;
       }});
}

}  // namespace

void add_attention() {
  for (const Workload& w :
       {Workload{"mixed64", mixed_segments()}, Workload{"even150", even_segments(64 * 150)},
        even2600(), Workload{"shared1000x16", shared_segments()},
        Workload{"lone4096", {{.begin = 0, .length = 4096}}},
        Workload{"softcap64", mixed_segments(), 50.0}}) {
    add_pass(w, /*forward=*/true);
    add_pass(w, /*forward=*/false);
  }
}

}  // namespace rlhf::bench
