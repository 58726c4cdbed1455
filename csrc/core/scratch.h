// Scratch memory that a thread keeps from one search to the next: the steady state allocates none.
#pragma once

#include <cstddef>

namespace recengine {

// A search on the calling thread and a task, which may run on the same thread, have their own.
enum ScratchUse : int { kCallScratch, kTaskScratch };

// Forgets what this thread has taken for `use`, before a search and after it: memory beyond 32 MiB
// goes back to the system.
void begin_scratch(int use);

// 64-byte aligned memory of this thread, its contents undefined, valid until it begins anew; null
// where memory is short. cost: amortized nothing.
void* take_scratch(int use, size_t bytes);

// What all threads of the process hold, in bytes; a thread that ends gives its own back.
size_t scratch_bytes();

}  // namespace recengine
