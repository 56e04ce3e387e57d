#include "rlhf/kernels/softmax_rows.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>

#include "rlhf/core/error.h"
#include "rlhf/kernels/softmax_rows_simd.h"

namespace rlhf {
namespace {

at::Tensor narrowed(const at::Tensor& t, int64_t begin, int64_t count) {
  return t.defined() ? t.narrow(0, begin, count) : t;
}

double* data_or_null(const at::Tensor& t) { return t.defined() ? t.data_ptr<double>() : nullptr; }

bool fused(const at::Tensor& z) {
  return z.device().is_cpu() && (z.scalar_type() == at::kFloat || z.scalar_type() == at::kDouble) &&
         z.stride(1) == 1;
}

template <class T>
simd::LogitTile<T> tile_of(const at::Tensor& z, int64_t first) {
  return {z.data_ptr<T>(), z.stride(0), z.size(1), first};
}

// Rows to threads: each row is one thread's, so the thread count changes no result.
template <class Args>
void by_rows(int64_t rows, int64_t width, const Args& args,
             void (*body)(const Args&, int64_t, int64_t)) {
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, width));
  at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) { body(args, begin, end); });
}

template <class T>
void transform_fused(const at::Tensor& z, int64_t first, const LogitTransform& transform) {
  at::Tensor bias;
  if (transform.bias.defined()) {
    bias = transform.bias.narrow(0, first, z.size(1)).to(z.scalar_type()).contiguous();
  }
  const simd::TransformArgs<T> args{
      tile_of<T>(z, first), bias.defined() ? bias.data_ptr<T>() : nullptr,
      static_cast<T>(transform.scale), static_cast<T>(transform.softcap),
      static_cast<T>(transform.temperature)};
  by_rows<simd::TransformArgs<T>>(z.size(0), z.size(1), args, &simd::transform_logits);
}

template <class T>
void stats_fused(const at::Tensor& z, int64_t first, const at::Tensor& targets,
                 const RowStats& stats, T* rescale, double cap_inverse) {
  const simd::StatsArgs<T> args{tile_of<T>(z, first),
                                targets.data_ptr<int64_t>(),
                                stats.max.data_ptr<double>(),
                                stats.sum.data_ptr<double>(),
                                stats.target.data_ptr<double>(),
                                data_or_null(stats.centred),
                                data_or_null(stats.squares),
                                data_or_null(stats.total),
                                stats.argmax.defined() ? stats.argmax.data_ptr<int64_t>() : nullptr,
                                rescale,
                                static_cast<T>(cap_inverse)};
  by_rows<simd::StatsArgs<T>>(z.size(0), z.size(1), args, &simd::softmax_stats);
}

template <class T>
void gradient_fused(const at::Tensor& z, int64_t first, const at::Tensor& targets,
                    const RowStats& stats, const RowGradient& gradient,
                    const LogitTransform& transform, const at::Tensor& out) {
  const simd::GradientArgs<T> args{tile_of<T>(z, first),
                                   out.data_ptr<T>(),
                                   out.stride(0),
                                   targets.data_ptr<int64_t>(),
                                   stats.max.data_ptr<double>(),
                                   stats.sum.data_ptr<double>(),
                                   gradient.onehot.data_ptr<double>(),
                                   gradient.prob.data_ptr<double>(),
                                   data_or_null(gradient.plogp),
                                   data_or_null(gradient.constant),
                                   static_cast<T>(transform.factor()),
                                   static_cast<T>(transform.cap_inverse())};
  by_rows<simd::GradientArgs<T>>(z.size(0), z.size(1), args, &simd::softmax_gradient);
}

// Rows whose target lies in the tile, and its column there.
struct Hits {
  at::Tensor rows;
  at::Tensor columns;
};

Hits hits(const at::Tensor& targets, int64_t first, int64_t width) {
  const auto column = targets - first;
  const auto rows = ((column >= 0) & (column < width)).nonzero().squeeze(1);
  return {rows, column.index_select(0, rows)};
}

at::Tensor cap_slope(const at::Tensor& z, double cap_inverse) {
  return 1.0 - (z * cap_inverse).square();
}

}  // namespace

RowStats RowStats::make(int64_t rows, const Wanted& wanted, at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kDouble).device(device);
  RowStats stats;
  stats.max = at::full({rows}, -std::numeric_limits<double>::infinity(), options);
  stats.sum = at::zeros({rows}, options);
  stats.target = at::zeros({rows}, options);
  stats.centred = wanted.entropy ? at::zeros({rows}, options) : at::Tensor();
  stats.squares = wanted.collision ? at::zeros({rows}, options) : at::Tensor();
  stats.total = wanted.total ? at::zeros({rows}, options) : at::Tensor();
  stats.argmax = wanted.argmax ? at::zeros({rows}, options.dtype(at::kLong)) : at::Tensor();
  return stats;
}

RowStats RowStats::narrow(int64_t begin, int64_t count) const {
  return {narrowed(max, begin, count),     narrowed(sum, begin, count),
          narrowed(target, begin, count),  narrowed(centred, begin, count),
          narrowed(squares, begin, count), narrowed(total, begin, count),
          narrowed(argmax, begin, count)};
}

RowGradient RowGradient::narrow(int64_t begin, int64_t count) const {
  return {narrowed(onehot, begin, count), narrowed(prob, begin, count),
          narrowed(plogp, begin, count), narrowed(constant, begin, count)};
}

namespace reference {

void transform_logits(const at::Tensor& z, int64_t first, const LogitTransform& transform) {
  if (transform.bias.defined()) {
    z.add_(transform.bias.narrow(0, first, z.size(1)));
  }
  z.mul_(transform.scale);
  if (transform.softcap > 0.0) {
    z.div_(transform.softcap).tanh_().mul_(transform.softcap);
  }
  z.div_(transform.temperature);
}

void softmax_update(const at::Tensor& z, int64_t first, const at::Tensor& targets,
                    const RowStats& stats) {
  const auto wide = z.to(at::kDouble);
  const auto [top, place] = wide.max(1);
  const auto max = at::maximum(stats.max, top);
  const auto grown = top > stats.max;
  const auto rise = at::where(grown, stats.max - max, at::zeros_like(max));  // m_old − m
  const auto x = wide - max.unsqueeze(1);
  const auto e = x.exp();
  const auto rescale = rise.exp();
  if (stats.centred.defined()) {
    const auto moved = at::where(stats.sum > 0, stats.sum * rise, at::zeros_like(max));
    const auto terms = at::where(e > 0, e * x, at::zeros_like(e));
    stats.centred.copy_(rescale * (stats.centred + moved) + terms.sum(1));
  }
  if (stats.squares.defined()) {
    stats.squares.copy_(stats.squares * rescale.square() + e.square().sum(1));
  }
  if (stats.total.defined()) {
    stats.total.add_(wide.sum(1));
  }
  if (stats.argmax.defined()) {
    stats.argmax.copy_(at::where(grown, place + first, stats.argmax));
  }
  stats.sum.copy_(stats.sum * rescale + e.sum(1));
  stats.max.copy_(max);
  const auto [rows, columns] = hits(targets, first, z.size(1));
  stats.target.index_copy_(0, rows, wide.index({rows, columns}));
}

at::Tensor softmax_weights(const at::Tensor& z, int64_t first, const at::Tensor& targets,
                           const RowStats& stats, double cap_inverse) {
  const auto before = stats.max.clone();
  reference::softmax_update(z, first, targets, stats);
  const auto rescale =
      at::where(before == stats.max, at::ones_like(before), (before - stats.max).exp());
  const auto weights = (z - stats.max.unsqueeze(1)).exp();
  z.copy_(cap_inverse == 0.0 ? weights : weights * cap_slope(z, cap_inverse));
  return rescale.to(z.scalar_type());
}

void softmax_gradient(const at::Tensor& z, int64_t first, const at::Tensor& targets,
                      const RowStats& stats, const RowGradient& gradient,
                      const LogitTransform& transform, const at::Tensor& out) {
  const auto log_p = z.to(at::kDouble) - (stats.max + stats.log_sum()).unsqueeze(1);
  const auto p = log_p.exp();
  auto dz = gradient.prob.unsqueeze(1) * p;
  if (gradient.plogp.defined()) {
    dz = dz + gradient.plogp.unsqueeze(1) * at::where(p > 0, p * log_p, at::zeros_like(p));
  }
  if (gradient.constant.defined()) {
    dz = dz + gradient.constant.unsqueeze(1);
  }
  const auto [rows, columns] = hits(targets, first, z.size(1));
  dz.index_put_({rows, columns}, dz.index({rows, columns}) + gradient.onehot.index_select(0, rows));
  dz = dz * transform.factor();
  out.copy_(transform.softcap > 0.0 ? dz * cap_slope(z, transform.cap_inverse()) : dz);
}

}  // namespace reference

void transform_logits(const at::Tensor& z, int64_t first, const LogitTransform& transform) {
  if (!fused(z)) {
    reference::transform_logits(z, first, transform);
  } else if (z.scalar_type() == at::kFloat) {
    transform_fused<float>(z, first, transform);
  } else {
    transform_fused<double>(z, first, transform);
  }
}

void softmax_update(const at::Tensor& z, int64_t first, const at::Tensor& targets,
                    const RowStats& stats) {
  if (!fused(z)) {
    reference::softmax_update(z, first, targets, stats);
  } else if (z.scalar_type() == at::kFloat) {
    stats_fused<float>(z, first, targets, stats, /*rescale=*/nullptr, /*cap_inverse=*/0.0);
  } else {
    stats_fused<double>(z, first, targets, stats, /*rescale=*/nullptr, /*cap_inverse=*/0.0);
  }
}

at::Tensor softmax_weights(const at::Tensor& z, int64_t first, const at::Tensor& targets,
                           const RowStats& stats, double cap_inverse) {
  if (!fused(z)) {
    return reference::softmax_weights(z, first, targets, stats, cap_inverse);
  }
  auto rescale = at::empty({z.size(0)}, z.options());
  if (z.scalar_type() == at::kFloat) {
    stats_fused<float>(z, first, targets, stats, rescale.data_ptr<float>(), cap_inverse);
  } else {
    stats_fused<double>(z, first, targets, stats, rescale.data_ptr<double>(), cap_inverse);
  }
  return rescale;
}

void softmax_gradient(const at::Tensor& z, int64_t first, const at::Tensor& targets,
                      const RowStats& stats, const RowGradient& gradient,
                      const LogitTransform& transform, const at::Tensor& out) {
  if (!fused(z) || !fused(out)) {
    reference::softmax_gradient(z, first, targets, stats, gradient, transform, out);
  } else if (z.scalar_type() == at::kFloat) {
    gradient_fused<float>(z, first, targets, stats, gradient, transform, out);
  } else {
    gradient_fused<double>(z, first, targets, stats, gradient, transform, out);
  }
}

}  // namespace rlhf
