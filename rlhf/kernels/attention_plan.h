// How the attention of one packed batch is cut into tasks. Plain data, no tensor.
//
// A *run* is what queries are cut along: a segment without prefix, or all siblings that follow each
// other behind one prefix, so that short answers meet their prompt's keys together. A run is cut
// into chunks of queries, a segment's keys into chunks of keys. A forward task is a chunk of
// queries with all its keys. A backward task is a chunk of queries with one chunk of keys (of each
// of its segments): it owns those rows of dq, dk and dv while it runs.
//
// Determinism. Tasks that touch the same rows run in a fixed order (`after`), and the cut depends
// on a segment's own shape alone: not on the number of threads, nor on what else is in the pack.
// Queries meet their own keys first, newest chunk first, then the prefix from its start; keys meet
// queries in order. Tasks are sorted such that every task stands behind those it waits for, so
// threads that take them in order cannot lock each other out.
#pragma once

#include <cstdint>
#include <vector>

#include "rlhf/core/segments.h"

namespace rlhf::attention {

struct Shape {
  int64_t query_heads = 1;  ///< H
  int64_t key_heads = 1;    ///< K, divides H
  int64_t width = 1;        ///< D

  int64_t group() const { return query_heads / key_heads; }
};

/// Queries [query_begin, query_end) against keys [key_begin, key_end), both tokens of the pack;
/// each key range lies within one segment. A query sees those whose position is not behind its own
/// and inside its window.
struct Piece {
  int64_t query_begin, query_end;
  int64_t key_begin, key_end;
  bool first_keys = false;  ///< backward: nothing was added to these keys' gradients before
};

struct Task {
  int64_t query_begin = 0, query_end = 0;   ///< the chunk, tokens
  int64_t first_piece = 0, last_piece = 0;  ///< [first, last) into Plan::pieces
  int64_t work = 0;                         ///< query tokens × keys, for the order
  int64_t level = 0;           ///< backward: length of the longest chain of tasks before it
  bool first_queries = false;  ///< backward: nothing was added to these queries' gradients before
  std::vector<int64_t> after;  ///< backward: tasks that must be done before
};

struct Plan {
  std::vector<int64_t> positions;  ///< (T)
  std::vector<Piece> pieces;
  std::vector<Task> forward;   ///< largest first
  std::vector<Task> backward;  ///< by level, then largest first
};

/// Throws Error unless the segments cover [0, tokens) in order and every prefix is an earlier
/// segment without a prefix.
void check_segments(const SegmentTable& segments, int64_t tokens);

/// Position of every token: from 0 in a segment, and on from the prefix's length behind a prefix.
std::vector<int64_t> segment_positions(const SegmentTable& segments);

/// Query tokens in a chunk; keys in a chunk of the backward pass.
int64_t query_chunk(const Shape& shape);
int64_t key_chunk(const Shape& shape);

/// `segments` have passed check_segments.
Plan make_plan(const SegmentTable& segments, const Shape& shape, int64_t window);

}  // namespace rlhf::attention
