#include "core/thread_pool.h"

#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

#include "simd/float_mode.h"

namespace recengine {

namespace {

constexpr int kMaxWorkers = 255;

#if defined(_WIN32)
// No signal is delivered to a thread there, and no process forks.
struct BlockedSignals {
  BlockedSignals() {}
};
void call_in_forked_child(void (*)()) {}
#else
// A thread started in this scope blocks all signals.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_;
};
void call_in_forked_child(void (*function)()) { pthread_atfork(nullptr, nullptr, function); }
#endif

struct Job {
  Task task;
  void* context;
  int64_t n_tasks;
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> done{0};
  std::mutex mutex;
  std::condition_variable finished;

  // Takes indices until none is left.
  void work() {
    const DefaultFloatMode mode;
    int64_t ran = 0;
    for (int64_t i = next.fetch_add(1); i < n_tasks; i = next.fetch_add(1), ++ran) task(context, i);
    if (ran != 0 && done.fetch_add(ran) + ran == n_tasks) {
      const std::lock_guard<std::mutex> lock(mutex);
      finished.notify_all();
    }
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex);
    finished.wait(lock, [this] { return done.load() == n_tasks; });
  }
};

class Pool {
 public:
  // Offers the job to `helpers` workers, starting threads as needed.
  void offer(const std::shared_ptr<Job>& job, int helpers) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (int i = 0; i < helpers; ++i) queue_.push_back(job);
      grow(std::min(helpers, kMaxWorkers));
    }
    ready_.notify_all();
  }

  // Withdraws what no worker has picked up.
  void withdraw(const std::shared_ptr<Job>& job) {
    const std::lock_guard<std::mutex> lock(mutex_);
    queue_.erase(std::remove(queue_.begin(), queue_.end(), job), queue_.end());
  }

  int workers() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return n_workers_;
  }

 private:
  // A machine that refuses a thread is not an error: the caller does the work.
  void grow(int wanted) {
    const BlockedSignals blocked;
    try {
      for (; n_workers_ < wanted; ++n_workers_) std::thread([this] { serve(); }).detach();
    } catch (const std::system_error&) {
    }
  }

  [[noreturn]] void serve() {
    for (;;) {
      std::shared_ptr<Job> job;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        ready_.wait(lock, [this] { return !queue_.empty(); });
        job = std::move(queue_.front());
        queue_.pop_front();
      }
      job->work();
    }
  }

  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::shared_ptr<Job>> queue_;
  int n_workers_ = 0;
};

// Never destroyed: workers are detached and may outlive static destruction. A forked child has
// none of the parent's threads and perhaps a locked mutex, so it abandons the pool for a new one.
std::atomic<Pool*> g_pool{nullptr};

void forget_pool() { g_pool.store(nullptr); }

Pool& pool() {
  static const bool registered = (call_in_forked_child(forget_pool), true);
  static_cast<void>(registered);
  Pool* current = g_pool.load();
  if (current != nullptr) return *current;
  auto fresh = std::make_unique<Pool>();
  if (g_pool.compare_exchange_strong(current, fresh.get())) return *fresh.release();
  return *current;
}

}  // namespace

void parallel_for(int64_t n_tasks, int num_threads, Task task, void* context) {
  if (n_tasks <= 0) return;
  const int64_t helpers = std::min<int64_t>(num_threads, n_tasks) - 1;
  if (helpers <= 0) {
    const DefaultFloatMode mode;
    for (int64_t i = 0; i < n_tasks; ++i) task(context, i);
    return;
  }
  const auto job = std::make_shared<Job>();
  job->task = task;
  job->context = context;
  job->n_tasks = n_tasks;
  Pool& current = pool();
  current.offer(job, static_cast<int>(std::min<int64_t>(helpers, kMaxWorkers)));
  job->work();
  current.withdraw(job);
  job->wait();
}

int worker_count() {
  Pool* current = g_pool.load();
  return current == nullptr ? 0 : current->workers();
}

}  // namespace recengine
