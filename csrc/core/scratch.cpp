#include "core/scratch.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>
#include <vector>

namespace recengine {

namespace {

constexpr std::align_val_t kLine{64};
constexpr size_t kFirstBlock = size_t{1} << 16;
constexpr size_t kKept = size_t{1} << 25;

std::atomic<size_t> g_held{0};

struct Block {
  void* memory;
  size_t size;
};

// Blocks are added while memory is taken and become one when it is taken anew.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { free_blocks(); }

  void begin() {
    taken_ = 0;
    if (blocks_.size() <= 1 && size_ <= kKept) return;
    const size_t size = size_;
    free_blocks();
    if (size <= kKept) add(size);
  }

  void* take(size_t bytes) {
    bytes = (std::max<size_t>(bytes, 1) + 63) / 64 * 64;
    if (blocks_.empty() || taken_ + bytes > blocks_.back().size) {
      if (!add(std::max({bytes, kFirstBlock, size_}))) return nullptr;
    }
    void* memory = static_cast<char*>(blocks_.back().memory) + taken_;
    taken_ += bytes;
    return memory;
  }

 private:
  bool add(size_t size) {
    void* memory = ::operator new(size, kLine, std::nothrow);
    if (memory == nullptr) return false;
    try {
      blocks_.push_back({memory, size});
    } catch (const std::bad_alloc&) {
      ::operator delete(memory, kLine);
      return false;
    }
    size_ += size;
    g_held.fetch_add(size, std::memory_order_relaxed);
    taken_ = 0;
    return true;
  }

  void free_blocks() {
    for (const Block& block : blocks_) ::operator delete(block.memory, kLine);
    blocks_.clear();
    g_held.fetch_sub(size_, std::memory_order_relaxed);
    size_ = 0;
  }

  std::vector<Block> blocks_;
  size_t size_ = 0;   // of all blocks
  size_t taken_ = 0;  // of the last one
};

thread_local Scratch t_scratch[2];

}  // namespace

void begin_scratch(int use) { t_scratch[use].begin(); }

void* take_scratch(int use, size_t bytes) { return t_scratch[use].take(bytes); }

size_t scratch_bytes() { return g_held.load(std::memory_order_relaxed); }

}  // namespace recengine
