// All rows of a half-epoch, for the file of one instruction set: what it includes last (see
// als_tiles.h).

#include "simd/als_double.h"

// False where a solution is not finite.
inline bool all_finite(const float* x, int64_t dim) {
  float worst = 0.0F;
  for (int64_t j = 0; j < dim; ++j) worst += x[j] - x[j];  // NaN for NaN and infinities
  return worst == 0.0F;
}

bool solve_row(const AlsHalf& half, const Row& row, double ridge, const Room& room, float* x) {
  for (int64_t j = 0; j < half.dim; ++j) {
    room.diagonal[j] = static_cast<float>(half.spectrum[j] + ridge);
  }
  bool solved = false;
  if (half.solver == AlsSolver::kCg) {
    solved = solve_cg(half, row, room, x);
  } else if (fits_short(half, row)) {
    solved = solve_short(half, row, room, x);
  } else if (half.solver == AlsSolver::kBlock) {
    solved = solve_blocks(half, row, room, x);
  } else {
    solved = solve_direct(half, row, room, x);
  }
  if (solved && all_finite(x, half.dim)) return true;
  return solve_double(half, row, ridge, x) && all_finite(x, half.dim);
}

void rotate_rows(const float* rows, int64_t n_rows, int64_t width, const float* panels, int64_t dim,
                 float* out) {
  constexpr int kRows = kTileRows < 8 ? kTileRows : 8;
  for (int64_t first = 0; first < n_rows; first += kRows) {
    const bool whole = first + kRows <= n_rows;
    for (int64_t p = 0; p < dim / kPanel; ++p) {
      const float* panel = panels + p * width * kPanel;
      if (whole) {
        tile<kRows, false, false>(rows + first * width, 1, width, panel, width,
                                  out + first * dim + p * kPanel, dim, true);
        continue;
      }
      for (int64_t r = first; r < n_rows; ++r) {
        tile<1, false, false>(rows + r * width, 1, width, panel, width, out + r * dim + p * kPanel,
                              dim, true);
      }
    }
  }
}

int64_t solve_rows(const AlsHalf& half, int64_t start, int64_t stop, float* scratch) {
  const Room room = room_in(scratch, half.dim);
  const bool warm = half.solver != AlsSolver::kCholesky;
  for (int64_t first = start; first < stop; first += kRowsAtOnce) {
    const int64_t count = first + kRowsAtOnce < stop ? kRowsAtOnce : stop - first;
    float* chunk = half.solved + first * half.width;
    const float* prior = half.prior == nullptr ? nullptr : half.prior + first * half.width;
    if (warm) rotate_rows(chunk, count, half.width, half.into_basis, half.dim, room.rotated);
    if (prior != nullptr) {
      rotate_rows(prior, count, half.width, half.into_basis, half.dim, room.priors);
    }
    for (int64_t r = 0; r < count; ++r) {
      float* x = room.rotated + r * half.dim;
      const int64_t at = half.indptr[first + r];
      const int64_t n = half.indptr[first + r + 1] - at;
      if (n == 0) {
        for (int64_t j = 0; j < half.dim; ++j) x[j] = 0.0F;
        continue;
      }
      const double ridge = half.ridges[first + r];
      const Row row = {half.indices + at, half.confidences + at, n,
                       prior == nullptr ? nullptr : room.priors + r * half.dim,
                       static_cast<float>(ridge)};
      if (!solve_row(half, row, ridge, room, x)) return first + r;
    }
    rotate_rows(room.rotated, count, half.dim, half.out_of_basis, half.dim, room.turned);
    for (int64_t r = 0; r < count; ++r) {
      const float* answer = room.turned + r * half.dim;
      if (half.indptr[first + r] == half.indptr[first + r + 1] && prior != nullptr) {
        answer = prior + r * half.width;
      }
      for (int64_t j = 0; j < half.width; ++j) chunk[r * half.width + j] = answer[j];
    }
  }
  return -1;
}
