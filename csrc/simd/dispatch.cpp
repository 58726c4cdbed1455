#include "simd/dispatch.h"

#include <cstdlib>
#include <stdexcept>

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace recengine {

namespace {

#if defined(__x86_64__)
// Bits are tested one by one: no microarchitecture name implies another feature.
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool has_avxvnni() { return has_avx2() && __builtin_cpu_supports("avxvnni"); }

bool has_avx512vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

// Put together here, in a file of the baseline: no code of an AVX file may run before it is asked.
const Kernels& avxvnni() {
  static const Kernels kernels = [] {
    Kernels table = kKernelsAvx2;
    table.name = kKernelsAvxVnni.name;
    table.query_code_max = kKernelsAvxVnni.query_code_max;
    table.dot_codes = kKernelsAvxVnni.dot_codes;
    return table;
  }();
  return kernels;
}
#elif defined(__aarch64__) && defined(__linux__)
bool has_dotprod() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
#elif defined(__aarch64__) && defined(__APPLE__)
bool has_dotprod() {
  int present = 0;
  size_t size = sizeof present;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &present, &size, nullptr, 0) == 0 &&
         present != 0;
}
#elif defined(__aarch64__)
bool has_dotprod() { return false; }
#endif

}  // namespace

std::vector<const Kernels*> available_levels() {
  std::vector<const Kernels*> levels{&kKernelsScalar};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (has_avx2()) levels.push_back(&kKernelsAvx2);
  if (has_avxvnni()) levels.push_back(&avxvnni());
  if (has_avx512vnni()) levels.push_back(&kKernelsAvx512Vnni);
#elif defined(__aarch64__)
  if (has_dotprod()) levels.push_back(&kKernelsNeon);
#endif
  return levels;
}

const Kernels& level_named(const std::string& name) {
  std::string known;
  for (const Kernels* kernels : available_levels()) {
    if (name == kernels->name) return *kernels;
    known += (known.empty() ? "" : ", ") + std::string(kernels->name);
  }
  throw std::invalid_argument("SIMD level must be one this machine has (" + known + "), got '" +
                              name + "'");
}

const Kernels& current_level() {
  static const Kernels& chosen = [&]() -> const Kernels& {
    const char* wanted = std::getenv("RECENGINE_SIMD");
    if (wanted != nullptr && *wanted != '\0') return level_named(wanted);
    return *available_levels().back();
  }();
  return chosen;
}

}  // namespace recengine
