// Arrays of exactly the promised length, so that ASan sees any step beyond.
#pragma once

#include <cstdint>
#include <memory>

#include "check.h"
#include "core/aligned.h"

// `count` values that start `shift` values after a 64-byte boundary and end where the memory ends.
template <class T>
class Array {
 public:
  explicit Array(int64_t count, int64_t shift = 0) : shift_(shift) {
    const size_t bytes = static_cast<size_t>(count + shift) * sizeof(T);
    void* memory = recengine::allocate_aligned(64, bytes);
    CHECK(memory != nullptr, "no memory for %zu bytes", bytes);
    memory_.reset(static_cast<T*>(memory));
  }
  T* data() const { return memory_.get() + shift_; }
  T& operator[](int64_t i) const { return data()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { recengine::free_aligned(p); }
  };
  std::unique_ptr<T, Free> memory_;
  int64_t shift_;
};
