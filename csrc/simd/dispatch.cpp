#include "simd/dispatch.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace recengine {

namespace {

#if defined(__x86_64__)
// Read from cpuid itself: compilers differ in the names that __builtin_cpu_supports knows, and on
// Windows its tables may not be linked. Bits are tested one by one: no name of a microarchitecture
// implies another feature.
struct CpuBits {
  uint32_t leaf1_c = 0;
  uint32_t leaf7_b = 0;
  uint32_t leaf7_c = 0;
  uint32_t leaf7_1_a = 0;
  uint32_t enabled = 0;  // XCR0: the registers that the system saves
};

bool all_set(uint32_t word, std::initializer_list<int> bits) {
  return std::all_of(bits.begin(), bits.end(), [word](int b) { return (word >> b & 1U) != 0; });
}

CpuBits read_cpu_bits() {
  CpuBits bits;
  uint32_t a = 0;
  uint32_t b = 0;
  uint32_t c = 0;
  uint32_t d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return bits;
  bits.leaf1_c = c;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0) {
    bits.leaf7_b = b;
    bits.leaf7_c = c;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) bits.leaf7_1_a = a;
  }
  constexpr int kOsXsave = 27;
  if (all_set(bits.leaf1_c, {kOsXsave})) {
    __asm__ volatile("xgetbv" : "=a"(bits.enabled), "=d"(d) : "c"(0));
  }
  return bits;
}

const CpuBits& cpu_bits() {
  static const CpuBits bits = read_cpu_bits();
  return bits;
}

bool has_avx2() {
  const CpuBits& cpu = cpu_bits();
  return all_set(cpu.enabled, {1, 2}) &&    // xmm, ymm
         all_set(cpu.leaf1_c, {12, 28}) &&  // FMA, AVX
         all_set(cpu.leaf7_b, {5});         // AVX2
}

bool has_avxvnni() { return has_avx2() && all_set(cpu_bits().leaf7_1_a, {4}); }

bool has_avx512vnni() {
  const CpuBits& cpu = cpu_bits();
#if defined(__APPLE__)
  const bool saved = true;  // macOS enables these registers when a thread first uses one
#else
  const bool saved = all_set(cpu.enabled, {5, 6, 7});  // masks, upper halves, zmm16-31
#endif
  return saved && has_avx2() && all_set(cpu.leaf7_b, {16, 17, 30, 31}) &&  // F, DQ, BW, VL
         all_set(cpu.leaf7_c, {11});                                       // VNNI
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
bool has_dotprod() { return true; }  // as every Mac of this architecture has
#elif defined(__aarch64__)
bool has_dotprod() { return false; }
#endif

}  // namespace

std::vector<const Kernels*> available_levels() {
  std::vector<const Kernels*> levels{&kKernelsScalar};
#if defined(__x86_64__)
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

const AlsKernels& als_kernels([[maybe_unused]] const Kernels& level) {
#if defined(__x86_64__)
  if (&level == &kKernelsAvx512Vnni) return kAlsAvx512;
  if (&level != &kKernelsScalar) return kAlsAvx2;
#endif
  return kAlsScalar;
}

}  // namespace recengine
