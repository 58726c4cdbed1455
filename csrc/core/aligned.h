// Memory at a wanted alignment, on every platform: C++17's aligned_alloc is missing on Windows.
#pragma once

#include <cstddef>
#include <cstdlib>

#if defined(_WIN32)
#include <malloc.h>
#endif

namespace recengine {

// pre:     alignment is a power of two, a multiple of sizeof(void*); any size.
// post:    a block of at least `size` bytes, or null where there is none; free_aligned frees it,
//          free() must not.
// threads: any.
inline void* allocate_aligned(std::size_t alignment, std::size_t size) noexcept {
  const std::size_t wanted = size == 0 ? 1 : size;  // so that null means one thing only
#if defined(_WIN32)
  return _aligned_malloc(wanted, alignment);
#else
  void* memory = nullptr;
  return posix_memalign(&memory, alignment, wanted) == 0 ? memory : nullptr;
#endif
}

// pre: `memory` is null or from allocate_aligned, and not yet freed.
inline void free_aligned(void* memory) noexcept {
#if defined(_WIN32)
  _aligned_free(memory);
#else
  std::free(memory);
#endif
}

}  // namespace recengine
