// What the Cython drivers are handed, as one capsule: one table of kernels and one pool.
#pragma once

#include <chrono>
#include <cstdint>

#include "core/code_walk.h"
#include "core/group_test.h"
#include "core/scratch.h"
#include "core/thread_pool.h"
#include "simd/als.h"
#include "simd/kernels.h"

namespace recengine {

inline constexpr const char* kApiCapsule = "recengine._native.api";

struct NativeApi {
  const Kernels* kernels;
  void (*parallel_for)(int64_t n_tasks, int num_threads, Task task, void* context);
  int64_t (*now_ns)();  // the clock of time.monotonic_ns()
  int64_t (*next_hit)(const Kernels& kernels, const CodeWalk& walk, int64_t first, int64_t end);
  void (*split_directions)(const GroupQueries& queries);
  int64_t (*next_reached)(const GroupQueries& queries, const Groups& groups, GroupCursor* cursor,
                          int64_t* members, int64_t* n_members);
  void (*begin_scratch)(int use);
  void* (*take_scratch)(int use, size_t bytes);
  const AlsKernels* als;
  int64_t (*als_scratch_floats)(int64_t dim, int64_t longest);
};

inline int64_t monotonic_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace recengine
