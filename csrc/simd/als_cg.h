// A row's system by conjugate gradients, for the file of one instruction set (see als_tiles.h).
//
// What a pass over a row's entries costs is loads: a block of entries is read twice, from memory
// for its scores, then from the first cache for its sum, whose columns stay in registers meanwhile.

#include "simd/als_row.h"

constexpr int64_t kPassEntries = 32;  // of a block: a divisor of kEntries
constexpr int64_t kAhead = 64;        // entries that are fetched ahead

// Some entries of a row.
struct Block {
  const float* rows[kPassEntries];  // those beyond `n`, up to a multiple of 8: zeros
  float weights[kPassEntries];
  float factors[kPassEntries];
  int64_t n;
};

// factors[k] = rows[k].p, eight at a time.
inline void score(Block& block, const float* p, int64_t dim) {
  for (int64_t first = 0; first < block.n; first += 8) {
    const float* const* z = block.rows + first;
    Vec sums[8];
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) sums[k] = zero();
    for (int64_t j = 0; j < dim; j += kLanes) {
      const Vec value = load(p + j);
#pragma GCC unroll 8
      for (int k = 0; k < 8; ++k) sums[k] = fma(load(z[k] + j), value, sums[k]);
    }
    store_sums(sums, block.factors + first);
  }
}

// out[0, kCount vectors) += sum_e factors[e] rows[e][at, ...); with kSquares also
// squares += sum_e weights[e] rows[e]^2.
template <int kCount, bool kSquares>
inline void add_columns(const Block& block, int64_t at, float* out, float* squares) {
  Vec total[kCount];
  Vec square[kCount];
#pragma GCC unroll 8
  for (int v = 0; v < kCount; ++v) total[v] = square[v] = zero();
  for (int64_t e = 0; e < block.n; ++e) {
    const float* row = block.rows[e] + at;
    const Vec factor = all(block.factors[e]);
    const Vec weight = all(block.weights[e]);
#pragma GCC unroll 8
    for (int v = 0; v < kCount; ++v) {
      const Vec value = load(row + v * kLanes);
      total[v] = fma(factor, value, total[v]);
      if (kSquares) square[v] = fma(mul(weight, value), value, square[v]);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kCount; ++v) {
    float* to = out + at + v * kLanes;
    store(to, add(load(to), total[v]));
    if (kSquares) {
      to = squares + at + v * kLanes;
      store(to, add(load(to), square[v]));
    }
  }
}

template <bool kSquares>
inline void add_rows(const Block& block, int64_t dim, float* out, float* squares) {
  constexpr int kMost = kSquares ? 4 : 8;
  int64_t j = 0;
  for (; j + kMost * kLanes <= dim; j += kMost * kLanes) {
    add_columns<kMost, kSquares>(block, j, out, squares);
  }
  if (!kSquares && j + 4 * kLanes <= dim) {
    add_columns<4, kSquares>(block, j, out, squares);
    j += 4 * kLanes;
  }
  if (j + 2 * kLanes <= dim) {
    add_columns<2, kSquares>(block, j, out, squares);
    j += 2 * kLanes;
  }
  if (j < dim) add_columns<1, kSquares>(block, j, out, squares);
}

// out += sum_e (asked_e - w_e z_e.p) z_e, where asked_e is c_e if kAsk, else 0 and the sign is
// turned: the residual of p, or the product of the entries with p. With kAsk also
// squares += w_e z_e^2.
template <bool kAsk>
__attribute__((noinline)) void pass(const AlsHalf& half, const Row& row, const float* p, float* out,
                                    float* squares, const float* zeros) {
  const int64_t dim = half.dim;
  Block block;
  for (int64_t first = 0; first < row.n; first += kPassEntries) {
    block.n = first + kPassEntries < row.n ? kPassEntries : row.n - first;
    for (int64_t k = 0; k < block.n; ++k) {
      block.rows[k] = fixed_row(half, row, first + k);
      block.weights[k] = weight_of(half, row, first + k);
    }
    for (int64_t k = block.n; k % 8 != 0; ++k) block.rows[k] = zeros;
    const int64_t ahead = first + kAhead + block.n < row.n ? first + kAhead + block.n : row.n;
    for (int64_t e = first + kAhead; e < ahead; ++e) prefetch_row(fixed_row(half, row, e), dim);
    score(block, p, dim);
    for (int64_t k = 0; k < block.n; ++k) {
      const float weighed = block.weights[k] * block.factors[k];
      block.factors[k] = kAsk ? asked_by(row, first + k) - weighed : weighed;
    }
    add_rows<kAsk>(block, dim, out, squares);
  }
}

// Some steps from x; false where the system is not positive definite in float32.
bool solve_cg(const AlsHalf& half, const Row& row, const Room& room, float* x) {
  const int64_t dim = half.dim;
  float* __restrict r = room.residual;
  float* __restrict p = room.direction;
  float* __restrict q = room.product;
  float* __restrict scale = room.preconditioner;
  const float* __restrict diagonal = room.diagonal;
  ask_prior(half, row, r);
  for (int64_t j = 0; j < dim; ++j) {
    r[j] -= diagonal[j] * x[j];
    scale[j] = diagonal[j];
  }
  pass<true>(half, row, x, r, scale, room.zeros);
  bool positive = true;
  for (int64_t j = 0; j < dim; ++j) {
    positive &= scale[j] > 0.0F;
    scale[j] = 1.0F / scale[j];
    q[j] = scale[j] * r[j];
    p[j] = q[j];
  }
  if (!positive) return false;
  float size = dot(r, q, dim);
  for (int64_t step = 0; step < half.steps && size > 0.0F; ++step) {
    for (int64_t j = 0; j < dim; ++j) q[j] = diagonal[j] * p[j];
    pass<false>(half, row, p, q, nullptr, room.zeros);
    const float curvature = dot(p, q, dim);
    if (!(curvature > 0.0F)) return false;
    const float length = size / curvature;
    add_scaled(length, p, x, dim);
    if (step + 1 == half.steps) break;
    add_scaled(-length, q, r, dim);
    for (int64_t j = 0; j < dim; ++j) q[j] = scale[j] * r[j];
    const float next = dot(r, q, dim);
    const float ratio = next / size;
    for (int64_t j = 0; j < dim; ++j) p[j] = q[j] + ratio * p[j];
    size = next;
  }
  return true;
}
