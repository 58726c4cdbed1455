// Registration only: each concept registers itself in register_<concept>.cpp.
#include "bindings/registration.h"

PYBIND11_MODULE(_native, m) {
  m.doc() = "Native kernels of recengine: dispatch, thread pool and the table the drivers use.";
  recengine::register_runtime(m);
  recengine::register_kernels(m);
  recengine::register_quantize(m);
  recengine::register_als(m);
}
