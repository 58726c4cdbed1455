// NumPy arrays at the door: checked shapes, no copies, no conversions.
#pragma once

#include <pybind11/numpy.h>

#include <string>

namespace recengine {

// A C-contiguous float32 array; anything else is refused by the overload resolution.
using FloatArray = pybind11::array_t<float, pybind11::array::c_style>;

inline void require(bool holds, const std::string& message) {
  if (!holds) throw pybind11::value_error(message);
}

// Rows and columns of a 2-D array. throws: ValueError naming the argument.
inline std::pair<int64_t, int64_t> matrix_shape(const FloatArray& array, const char* name) {
  require(array.ndim() == 2,
          std::string(name) + " must be 2-D, got " + std::to_string(array.ndim()) + "-D");
  return {array.shape(0), array.shape(1)};
}

}  // namespace recengine
