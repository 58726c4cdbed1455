// Which kernels this machine can run, and which ones it does run.
#pragma once

#include <string>
#include <vector>

#include "simd/als.h"
#include "simd/kernels.h"

namespace recengine {

// Levels that this machine can run, the best last. cost: a few cpuid reads. threads: safe.
std::vector<const Kernels*> available_levels();

// The level of that name. throws: std::invalid_argument naming the levels that can be had.
const Kernels& level_named(const std::string& name);

// The level in use: RECENGINE_SIMD (scalar|avx2|avxvnni|avx512vnni|neon) where it is set, else the
// best. Chosen once.
// throws: std::invalid_argument on a level this machine lacks, at every call.
const Kernels& current_level();

// The kernels of training that go with a level: avxvnni has those of avx2, neon those of scalar.
const AlsKernels& als_kernels(const Kernels& level);

}  // namespace recengine
