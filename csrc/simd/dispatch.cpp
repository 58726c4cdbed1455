#include "simd/dispatch.h"

#include <cstdlib>
#include <stdexcept>

namespace recengine {

namespace {

#if defined(__x86_64__)
// Bits are tested one by one: no microarchitecture name implies another feature.
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool has_avx512vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif

}  // namespace

std::vector<const Kernels*> available_levels() {
  std::vector<const Kernels*> levels{&kKernelsScalar};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (has_avx2()) levels.push_back(&kKernelsAvx2);
  if (has_avx512vnni()) levels.push_back(&kKernelsAvx512Vnni);
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
