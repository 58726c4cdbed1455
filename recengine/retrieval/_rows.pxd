"""The rows of a segment as they are stored, read as float32 one at a time."""

from libc.stdint cimport int64_t, uint16_t


cdef extern from "core/half.h" namespace "recengine" nogil:
    cdef enum class Storage(int):
        kFloat32
        kFloat16
        kBfloat16

    cdef struct Rows:
        const void* data
        int64_t dim
        Storage storage

    const float* row_at(const Rows& rows, int64_t row, float* scratch)
    void prefetch_row(const Rows& rows, int64_t row)


cdef inline int64_t point_at(Rows* rows, vectors) except -1:
    """Point `rows` at a C-contiguous (n, dim) array of a storage kind; returns n.

    float32, float16, or uint16 for the bits of bfloat16. The caller keeps the array alive.
    """
    cdef const float[:, ::1] floats
    cdef const uint16_t[:, ::1] halves
    cdef object dtype = getattr(vectors, "dtype", None)
    cdef str kind = dtype.char if dtype is not None and dtype.isnative else ""
    rows.data = NULL
    if kind != "e" and kind != "H":
        floats = vectors
        if floats is None:
            raise TypeError("vectors must be an array, got None")
        rows.storage, rows.dim = Storage.kFloat32, floats.shape[1]
        if floats.size != 0:
            rows.data = &floats[0, 0]
        return floats.shape[0]
    halves = vectors.view("u2")
    rows.storage = Storage.kFloat16 if kind == "e" else Storage.kBfloat16
    rows.dim = halves.shape[1]
    if halves.size != 0:
        rows.data = &halves[0, 0]
    return halves.shape[0]


cdef inline bint is_narrow(const Rows& rows) noexcept nogil:
    """Whether `row_at` needs scratch memory."""
    return rows.storage != Storage.kFloat32
