"""What the solvers share: the native table, and one symmetric system of float64."""

from libc.stdint cimport int32_t, int64_t

ctypedef fused real:
    float
    double


cdef extern from "simd/als.h" namespace "recengine" nogil:
    cdef enum class AlsSolver(int):
        kCholesky

    cdef struct AlsHalf:
        const int64_t* indptr
        const int32_t* indices
        const float* confidences
        float shift
        const float* fixed
        int64_t dim
        int64_t width
        const double* spectrum
        const double* ridges
        const float* into_basis
        const float* out_of_basis
        const float* prior
        float* solved
        AlsSolver solver
        int64_t steps
        int64_t block

    cdef struct AlsKernels:
        int64_t (*solve_rows)(const AlsHalf& half, int64_t start, int64_t stop,
                              float* scratch) noexcept nogil
        void (*rotate_rows)(const float* rows, int64_t n_rows, int64_t width, const float* panels,
                            int64_t dim, float* out) noexcept nogil

    const int64_t kFactorPanel


cdef extern from "core/native_api.h" namespace "recengine" nogil:
    ctypedef void (*Task)(void* context, int64_t index) noexcept nogil

    cdef struct NativeApi:
        void (*parallel_for)(int64_t n_tasks, int num_threads, Task task,
                             void* context) noexcept nogil
        void (*begin_scratch)(int use) noexcept nogil
        void* (*take_scratch)(int use, size_t bytes) noexcept nogil
        const AlsKernels* als
        int64_t (*als_scratch_floats)(int64_t dim, int64_t longest) noexcept nogil

    const int kCallScratch
    const int kTaskScratch

    const char* kApiCapsule


cdef enum:
    BLOCK = 64  # rows gathered before their products are added to the system

cdef void add_products(real* block, real* weights, Py_ssize_t held, Py_ssize_t dim,
                       real* line, double* system) noexcept nogil
cdef bint factorize(double* system, Py_ssize_t dim) noexcept nogil
cdef void substitute(const double* system, double* rhs, Py_ssize_t dim) noexcept nogil
