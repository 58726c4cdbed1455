"""What the solvers share: the native table, and one symmetric system of float64."""

from libc.stdint cimport int64_t

ctypedef fused real:
    float
    double


cdef extern from "core/native_api.h" namespace "recengine" nogil:
    ctypedef void (*Task)(void* context, int64_t index) noexcept nogil

    cdef struct NativeApi:
        void (*parallel_for)(int64_t n_tasks, int num_threads, Task task,
                             void* context) noexcept nogil
        void (*begin_scratch)(int use) noexcept nogil
        void* (*take_scratch)(int use, size_t bytes) noexcept nogil

    const int kCallScratch
    const int kTaskScratch

    const char* kApiCapsule


cdef enum:
    BLOCK = 64  # rows gathered before their products are added to the system

cdef void add_products(real* block, real* weights, Py_ssize_t held, Py_ssize_t dim,
                       real* line, double* system) noexcept nogil
cdef bint factorize(double* system, Py_ssize_t dim) noexcept nogil
cdef void substitute(const double* system, double* rhs, Py_ssize_t dim) noexcept nogil
