// One function per concept; module.cpp calls them all.
#pragma once

#include <pybind11/pybind11.h>

namespace recengine {

void register_runtime(pybind11::module_& m);
void register_kernels(pybind11::module_& m);
void register_quantize(pybind11::module_& m);
void register_als(pybind11::module_& m);

}  // namespace recengine
