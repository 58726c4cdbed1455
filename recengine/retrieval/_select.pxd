"""The merge of two answers."""

from libc.stdint cimport int64_t


cdef void merge_pair(
    const int64_t* ordinals_a, const float* scores_a,
    const int64_t* ordinals_b, const float* scores_b,
    Py_ssize_t k, int64_t* out, float* best
) noexcept nogil
