// What this machine has, and the capsule that the Cython drivers take their kernels from.
#include <pybind11/stl.h>

#include <map>
#include <string>
#include <vector>

#include "bindings/registration.h"
#include "core/cpu_count.h"
#include "core/native_api.h"
#include "core/scratch.h"
#include "core/thread_pool.h"
#include "simd/dispatch.h"

namespace py = pybind11;

namespace recengine {

namespace {

// One table per level, alive as long as the process, so that capsules never dangle.
const NativeApi& api_of(const Kernels& kernels) {
  static const std::map<std::string, NativeApi> tables = [] {
    std::map<std::string, NativeApi> built;
    for (const Kernels* level : available_levels()) {
      built[level->name] = NativeApi{level,
                                     parallel_for,
                                     monotonic_ns,
                                     next_hit,
                                     split_directions,
                                     next_reached,
                                     begin_scratch,
                                     take_scratch,
                                     &als_kernels(*level),
                                     als_scratch_floats};
    }
    return built;
  }();
  return tables.at(kernels.name);
}

py::capsule api(const std::string& level) {
  const Kernels& kernels = level.empty() ? current_level() : level_named(level);
  return py::capsule(static_cast<const void*>(&api_of(kernels)), kApiCapsule);
}

std::vector<std::string> simd_levels() {
  std::vector<std::string> names;
  for (const Kernels* level : available_levels()) names.emplace_back(level->name);
  return names;
}

}  // namespace

void register_runtime(py::module_& m) {
  m.def("simd_levels", simd_levels, "SIMD levels this machine can run, the best last.");
  m.def(
      "simd_level", [] { return std::string(current_level().name); },
      "The SIMD level in use: RECENGINE_SIMD where set, else the best.");
  m.def("num_cpus", cpu_count, "min(affinity, cgroup quota), at least 1.");
  m.def("num_workers", worker_count, "Pool threads alive in this process.");
  m.def("scratch_bytes", scratch_bytes, "What all threads keep for their next searches, in bytes.");
  m.def("api", api, py::arg("level") = "",
        "The capsule for the Cython drivers, at a level (default: the one in use).");
}

}  // namespace recengine
