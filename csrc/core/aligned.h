// Memory at a wanted alignment, on every platform: C++17's aligned_alloc is missing on Windows.
#pragma once

#include <cstddef>
#include <cstdlib>

#if defined(_WIN32)
#include <malloc.h>
#elif defined(__linux__)
#include <sys/mman.h>
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

// A table that is read all over: large ones lie in huge pages where the system grants them, which
// saves page walks.
// post: as allocate_aligned(64, size); at least one byte more than `size` is there.
inline void* allocate_table(std::size_t size) noexcept {
  constexpr std::size_t kHugePage = std::size_t{1} << 21;
  const std::size_t alignment = size < kHugePage ? 64 : kHugePage;
  const std::size_t rounded = (size + alignment) / alignment * alignment;
  void* memory = allocate_aligned(alignment, rounded);
#if defined(__linux__)
  if (memory != nullptr && size >= kHugePage) {
    madvise(memory, rounded, MADV_HUGEPAGE);  // a refusal costs speed alone
  }
#endif
  return memory;
}

}  // namespace recengine
