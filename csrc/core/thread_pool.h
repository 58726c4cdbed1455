// The one place that owns threads.
#pragma once

#include <cstdint>

namespace recengine {

// A task is a plain function, so that Cython and C++ callers share one pool.
using Task = void (*)(void* context, int64_t index);

// Runs task(context, 0..n_tasks), on the calling thread and up to num_threads - 1 workers.
//
// pre:     num_threads >= 1; the task does not throw.
// post:    every index has run exactly once; all their writes are visible to the caller.
// threads: any number of callers at once, also from inside a task (the caller always works, so a
//          busy pool delays nobody for ever). No thread exists before the first call that asks for
//          more than one; a forked child starts with a fresh pool. Workers block all signals.
// numerics: every task runs with the default floating-point mode (round to nearest, denormals
//          kept), whatever the caller had set; the caller's mode is restored.
void parallel_for(int64_t n_tasks, int num_threads, Task task, void* context);

// Workers alive in this process; for tests and `doctor`.
int worker_count();

}  // namespace recengine
