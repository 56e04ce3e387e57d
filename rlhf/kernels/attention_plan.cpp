#include "rlhf/kernels/attention_plan.h"

#include <algorithm>
#include <numeric>

#include "rlhf/core/error.h"

namespace rlhf::attention {
namespace {

constexpr const char* kWhere = "packed_attention";

// Rows of queries, and keys, that one task works on: as many as leave a task's buffers in a 1 MiB
// cache at a width of 64.
constexpr int64_t kRows = 256;
constexpr int64_t kKeys = 256;
constexpr int64_t kWidth = 64;

int64_t fitted(int64_t rows, int64_t width) {
  return std::max<int64_t>(64, rows * kWidth / std::max(kWidth, width));
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Consecutive segments whose queries are cut together.
struct Run {
  size_t first, last;  // [first, last) segments
  int64_t begin, end;  // tokens
  int64_t prefix;
};

std::vector<Run> make_runs(const SegmentTable& segments) {
  std::vector<Run> runs;
  for (size_t s = 0; s < segments.size(); ++s) {
    const Segment& segment = segments[s];
    const int64_t end = segment.begin + segment.length;
    if (segment.prefix >= 0 && !runs.empty() && runs.back().prefix == segment.prefix) {
      runs.back().last = s + 1;
      runs.back().end = end;
    } else {
      runs.push_back({s, s + 1, segment.begin, end, segment.prefix});
    }
  }
  return runs;
}

class Planner {
 public:
  Planner(const SegmentTable& segments, const Shape& shape, int64_t window)
      : segments_(segments),
        window_(window),
        query_chunk_(query_chunk(shape)),
        key_chunk_(key_chunk(shape)),
        last_of_keys_(segments.size()) {
    plan_.positions = segment_positions(segments);
    for (size_t s = 0; s < segments.size(); ++s) {
      last_of_keys_[s].assign(static_cast<size_t>(ceil_div(segments[s].length, key_chunk_)), -1);
    }
  }

  Plan run() {
    for (const Run& run : make_runs(segments_)) {
      const int64_t chunks = ceil_div(run.end - run.begin, query_chunk_);
      for (int64_t u = 0; u < chunks; ++u) add_forward(run, u);
      last_of_queries_.assign(static_cast<size_t>(chunks), -1);
      add_backward_own(run, chunks);
      if (run.prefix >= 0) add_backward_prefix(run, chunks);
    }
    sort_tasks();
    return std::move(plan_);
  }

 private:
  int64_t chunk_begin(const Run& run, int64_t u) const { return run.begin + u * query_chunk_; }
  int64_t chunk_end(const Run& run, int64_t u) const {
    return std::min(run.end, run.begin + (u + 1) * query_chunk_);
  }

  Task start(const Run& run, int64_t u) const {
    Task task;
    task.query_begin = chunk_begin(run, u);
    task.query_end = chunk_end(run, u);
    task.first_piece = task.last_piece = static_cast<int64_t>(plan_.pieces.size());
    return task;
  }

  void add_piece(Task& task, const Piece& piece) {
    task.work += (piece.query_end - piece.query_begin) * (piece.key_end - piece.key_begin);
    plan_.pieces.push_back(piece);
    task.last_piece = static_cast<int64_t>(plan_.pieces.size());
  }

  void add_forward(const Run& run, int64_t u) {
    Task task = start(run, u);
    if (run.prefix >= 0) {
      const Segment& prefix = segments_[static_cast<size_t>(run.prefix)];
      add_piece(task,
                {task.query_begin, task.query_end, prefix.begin, prefix.begin + prefix.length});
    }
    for (size_t s = run.first; s < run.last; ++s) {
      const Segment& segment = segments_[s];
      const int64_t begin = std::max(task.query_begin, segment.begin);
      const int64_t end = std::min(task.query_end, segment.begin + segment.length);
      if (begin < end) add_piece(task, {begin, end, segment.begin, end});
    }
    plan_.forward.push_back(std::move(task));
  }

  // Own keys, one chunk further back with every distance. Within a distance by chunk of queries: so
  // the tasks of one chunk of queries come newest keys first, and those of one chunk of keys in the
  // order of the queries.
  void add_backward_own(const Run& run, int64_t chunks) {
    for (int64_t distance = 0, added = 1; added > 0; ++distance) {
      added = 0;
      for (int64_t u = 0; u < chunks; ++u) {
        Task task = start(run, u);
        for (size_t s = run.first; s < run.last; ++s) {
          const Segment& segment = segments_[s];
          const int64_t begin = std::max(task.query_begin, segment.begin);
          const int64_t end = std::min(task.query_end, segment.begin + segment.length);
          if (begin >= end) continue;
          const int64_t chunk = (end - 1 - segment.begin) / key_chunk_ - distance;
          add_backward_piece(task, s, chunk, begin, end);
        }
        added += finish_backward(std::move(task), u);
      }
    }
  }

  // The prefix's keys: chunk of queries u meets chunk of keys c in step u + c, so that tasks of one
  // step are disjoint.
  void add_backward_prefix(const Run& run, int64_t chunks) {
    const auto prefix = static_cast<size_t>(run.prefix);
    const int64_t key_chunks = static_cast<int64_t>(last_of_keys_[prefix].size());
    for (int64_t step = 0; step < chunks + key_chunks - 1; ++step) {
      for (int64_t u = std::max<int64_t>(0, step - key_chunks + 1); u < std::min(chunks, step + 1);
           ++u) {
        Task task = start(run, u);
        add_backward_piece(task, prefix, step - u, task.query_begin, task.query_end);
        finish_backward(std::move(task), u);
      }
    }
  }

  void add_backward_piece(Task& task, size_t segment, int64_t chunk, int64_t begin, int64_t end) {
    if (chunk < 0) return;
    const Segment& keys = segments_[segment];
    const int64_t key_begin = keys.begin + chunk * key_chunk_;
    const int64_t key_end = std::min(keys.begin + keys.length, key_begin + key_chunk_);
    const int64_t oldest_query =
        *std::min_element(plan_.positions.begin() + begin, plan_.positions.begin() + end);
    const int64_t newest_key = plan_.positions[static_cast<size_t>(key_end - 1)];
    if (window_ > 0 && oldest_query - newest_key >= window_) return;
    int64_t& last = last_of_keys_[segment][static_cast<size_t>(chunk)];
    add_piece(task, {begin, end, key_begin, key_end, /*first_keys=*/last < 0});
    if (last >= 0) task.after.push_back(last);
    last = static_cast<int64_t>(plan_.backward.size());
  }

  int64_t finish_backward(Task&& task, int64_t u) {
    if (task.first_piece == task.last_piece) return 0;
    int64_t& last = last_of_queries_[static_cast<size_t>(u)];
    task.first_queries = last < 0;
    if (last >= 0) task.after.push_back(last);
    last = static_cast<int64_t>(plan_.backward.size());
    for (const int64_t before : task.after) {
      task.level = std::max(task.level, plan_.backward[static_cast<size_t>(before)].level + 1);
    }
    plan_.backward.push_back(std::move(task));
    return 1;
  }

  void sort_tasks() {
    std::stable_sort(plan_.forward.begin(), plan_.forward.end(),
                     [](const Task& a, const Task& b) { return a.work > b.work; });
    std::vector<int64_t> order(plan_.backward.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [this](int64_t a, int64_t b) {
      const Task& left = plan_.backward[static_cast<size_t>(a)];
      const Task& right = plan_.backward[static_cast<size_t>(b)];
      return left.level != right.level ? left.level < right.level : left.work > right.work;
    });
    std::vector<int64_t> place(order.size());
    std::vector<Task> sorted;
    for (const int64_t old : order) {
      place[static_cast<size_t>(old)] = static_cast<int64_t>(sorted.size());
      sorted.push_back(std::move(plan_.backward[static_cast<size_t>(old)]));
    }
    for (Task& task : sorted) {
      for (int64_t& before : task.after) before = place[static_cast<size_t>(before)];
    }
    plan_.backward = std::move(sorted);
  }

  const SegmentTable& segments_;
  int64_t window_;
  int64_t query_chunk_;
  int64_t key_chunk_;
  Plan plan_;
  std::vector<std::vector<int64_t>>
      last_of_keys_;  // by segment and chunk: the last task that touched it, or -1
  std::vector<int64_t> last_of_queries_;  // by chunk of the current run
};

}  // namespace

void check_segments(const SegmentTable& segments, int64_t tokens) {
  int64_t next = 0;
  for (size_t s = 0; s < segments.size(); ++s) {
    const Segment& segment = segments[s];
    check(segment.begin == next && segment.length >= 1, kWhere,
          "segment {} was expected to begin at token {} with a length of at least 1, got begin {} "
          "and length {}.",
          s, next, segment.begin, segment.length);
    check(segment.prefix >= -1 && segment.prefix < static_cast<int64_t>(s), kWhere,
          "the prefix of segment {} was expected to be an earlier segment or -1, got {}.", s,
          segment.prefix);
    check(segment.prefix < 0 || segments[static_cast<size_t>(segment.prefix)].prefix < 0, kWhere,
          "the prefix of segment {} was expected to have no prefix itself, but segment {} has "
          "segment {}.",
          s, segment.prefix,
          segment.prefix < 0 ? -1 : segments[static_cast<size_t>(segment.prefix)].prefix);
    next += segment.length;
  }
  check(next == tokens, kWhere, "the segments were expected to cover {} tokens, they cover {}.",
        tokens, next);
}

std::vector<int64_t> segment_positions(const SegmentTable& segments) {
  std::vector<int64_t> positions;
  for (const Segment& segment : segments) {
    const int64_t first =
        segment.prefix < 0 ? 0 : segments[static_cast<size_t>(segment.prefix)].length;
    for (int64_t t = 0; t < segment.length; ++t) positions.push_back(first + t);
  }
  return positions;
}

int64_t query_chunk(const Shape& shape) {
  return std::max<int64_t>(1, fitted(kRows, shape.width) / shape.group());
}

int64_t key_chunk(const Shape& shape) { return fitted(kKeys, shape.width); }

Plan make_plan(const SegmentTable& segments, const Shape& shape, int64_t window) {
  return Planner(segments, shape, window).run();
}

}  // namespace rlhf::attention
