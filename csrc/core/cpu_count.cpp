#include "core/cpu_count.h"

#if defined(__linux__)
#include <sched.h>
#elif defined(_WIN32)
#define NOMINMAX
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#endif

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <thread>

namespace recengine {

namespace {

int all_cpus() { return static_cast<int>(std::max(1U, std::thread::hardware_concurrency())); }

#if defined(__linux__)
// A quota of microseconds per period, or 0 where there is none.
double quota_cpus() {
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (v2 >> quota >> period && quota != "max" && period > 0) return std::stod(quota) / period;
  std::ifstream v1_quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  std::ifstream v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  double allowed = 0;
  if (v1_quota >> allowed && v1_period >> period && allowed > 0 && period > 0) {
    return allowed / period;
  }
  return 0;
}

// A machine with more processors than the set holds refuses to fill it.
int affinity_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return all_cpus();
  return std::max(1, CPU_COUNT(&set));
}
#elif defined(_WIN32)
double quota_cpus() { return 0; }

// A process with threads in several groups of 64 processors has no mask: it may use all of them.
int affinity_cpus() {
  DWORD_PTR process = 0;
  DWORD_PTR system = 0;
  if (GetProcessAffinityMask(GetCurrentProcess(), &process, &system) == 0) return all_cpus();
  if (process == 0) return static_cast<int>(GetActiveProcessorCount(ALL_PROCESSOR_GROUPS));
  int count = 0;
  for (; process != 0; process &= process - 1) ++count;
  return count;
}
#else
double quota_cpus() { return 0; }
int affinity_cpus() { return all_cpus(); }
#endif

}  // namespace

int cpu_count() {
  const int by_affinity = affinity_cpus();
  const double quota = quota_cpus();
  if (quota <= 0) return by_affinity;
  return std::max(1, std::min(by_affinity, static_cast<int>(std::ceil(quota))));
}

}  // namespace recengine
