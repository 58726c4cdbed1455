// The thread pool without Python: many callers at once, nested calls, forks amid the work.
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cfenv>
#include <cstdint>
#include <thread>
#include <vector>

#include "check.h"
#include "core/cpu_count.h"
#include "core/thread_pool.h"

namespace {

using recengine::parallel_for;
using recengine::worker_count;

struct Tally {
  explicit Tally(int64_t n_tasks) : plain(static_cast<size_t>(n_tasks), 0) {}
  std::vector<int> plain;  // not atomic on purpose: TSan sees any index that runs twice
  std::atomic<int64_t> total{0};
};

void count(void* context, int64_t index) {
  auto* tally = static_cast<Tally*>(context);
  ++tally->plain[static_cast<size_t>(index)];
  tally->total.fetch_add(1, std::memory_order_relaxed);
}

void submit_and_check(int64_t n_tasks, int num_threads) {
  Tally tally(n_tasks);
  parallel_for(n_tasks, num_threads, count, &tally);
  CHECK(tally.total.load() == n_tasks, "%ld of %ld", static_cast<long>(tally.total.load()),
        static_cast<long>(n_tasks));
  for (const int times : tally.plain) CHECK(times == 1, "an index ran %d times", times);
}

void test_no_thread_before_it_is_needed() {
  CHECK(worker_count() == 0, "%d workers at start", worker_count());
  submit_and_check(100, 1);
  submit_and_check(1, 8);
  submit_and_check(0, 8);
  CHECK(worker_count() == 0, "%d workers without need", worker_count());
  submit_and_check(100, 3);
  CHECK(worker_count() >= 1 && worker_count() <= 2, "%d workers for 3 threads", worker_count());
}

void test_many_callers_at_once() {
  std::atomic<bool> start{false};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 8; ++caller) {
    callers.emplace_back([caller, &start] {
      while (!start.load()) std::this_thread::yield();
      for (int64_t round = 0; round < 150; ++round) {
        submit_and_check((round * 7 + caller) % 40, 1 + static_cast<int>((round + caller) % 6));
      }
    });
  }
  start.store(true);
  for (auto& caller : callers) caller.join();
}

void test_calls_inside_calls() {
  std::atomic<int64_t> inner{0};
  parallel_for(
      6, 4,
      [](void* context, int64_t) {
        parallel_for(
            5, 4,
            [](void* deeper, int64_t) { static_cast<std::atomic<int64_t>*>(deeper)->fetch_add(1); },
            context);
      },
      &inner);
  CHECK(inner.load() == 30, "%ld of 30", static_cast<long>(inner.load()));
}

// Asks the arithmetic, not fegetround(), which reads another register than the kernels obey.
bool rounds_upward() {
  volatile double one = 1.0;
  volatile double little = 1e-30;
  return one + little > one;
}

void test_mode_and_signals_in_tasks() {
  CHECK(std::fesetround(FE_UPWARD) == 0 && rounds_upward(), "no upward rounding here");
  const pthread_t caller = pthread_self();
  void* context = const_cast<pthread_t*>(&caller);
  for (const int num_threads : {1, 4}) {
    parallel_for(
        64, num_threads,
        [](void* data, int64_t) {
          CHECK(!rounds_upward(), "a task rounds the caller's way");
          if (pthread_equal(pthread_self(), *static_cast<pthread_t*>(data))) return;
          sigset_t blocked;
          pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
          CHECK(sigismember(&blocked, SIGINT) == 1, "a worker could take the signal of Python");
        },
        context);
    CHECK(rounds_upward(), "the caller's mode is gone");
  }
  std::fesetround(FE_TONEAREST);
}

void expect_clean_exit(pid_t child) {
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child, "lost a child");
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child ended with status %d", status);
}

pid_t fork_and_submit() {
  const pid_t child = fork();
  CHECK(child >= 0, "cannot fork");
  if (child != 0) return child;
  alarm(30);  // a child that hangs dies by SIGALRM
  CHECK(worker_count() == 0, "a child inherited %d workers", worker_count());
  for (int round = 0; round < 20; ++round) submit_and_check(50, 3);
  CHECK(worker_count() >= 1, "the child has no pool of its own");
  _exit(0);
}

void test_fork_then_submit() {
  submit_and_check(100, 4);
  const pid_t child = fork_and_submit();
  submit_and_check(100, 4);
  expect_clean_exit(child);
}

// Another thread holds the pool's locks at many of these forks.
void test_fork_while_others_submit() {
  std::atomic<bool> stop{false};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&stop] {
      while (!stop.load()) parallel_for(8, 3, [](void*, int64_t) {}, nullptr);
    });
  }
  for (int round = 0; round < 20; ++round) expect_clean_exit(fork_and_submit());
  stop.store(true);
  for (auto& caller : callers) caller.join();
}

}  // namespace

int main(int argc, char**) {
  const bool with_forks = argc == 1;  // TSan cannot follow a child that starts threads
  CHECK(recengine::cpu_count() >= 1, "%d processors", recengine::cpu_count());
  test_no_thread_before_it_is_needed();
  test_many_callers_at_once();
  test_calls_inside_calls();
  test_mode_and_signals_in_tasks();
  if (with_forks) {
    test_fork_then_submit();
    test_fork_while_others_submit();
  }
  std::puts("pool: ok");
  return 0;
}
