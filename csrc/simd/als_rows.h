// One row's system, solved in one of four ways, for the file of one instruction set (see
// als_tiles.h, which says how it is included).
//
// direct   the whole system by Cholesky, or one block of coordinates of it
// short    a row of few entries: with D = diag(spectrum + ridge) and U = W^1/2 Z D^-1/2 the system
//          of entries (I + U U') y = ... is smaller than that of factors; needs c >= shift
// cg       conjugate gradients, preconditioned by the system's diagonal
// double   the whole system in float64, where float32 does not carry it

constexpr int64_t kEntries = kAlsEntries;
constexpr int64_t kRowsAtOnce = kAlsRowsAtOnce;
constexpr float kLeastPivot = 1e-4F;
constexpr float kLargestPivot = 1e30F;
constexpr double kShortShare = 0.6;  // of the factors: up to here the system of entries is cheaper

#include "simd/als_tiles.h"

// Where one row works; all parts 64-byte aligned.
struct Room {
  float* system;    // triangle of panels
  float* block;     // [2][kEntries * dim]: packed entries of positive and of negative weight
  float* units;     // [dim * dim] rows of U
  float* across;    // [dim * dim] panels of U'
  float* rotated;   // [kRowsAtOnce][dim]
  float* turned;    // [kRowsAtOnce][dim]
  float* priors;    // [kRowsAtOnce][dim]
  float* inverses;  // each [dim]
  float* diagonal;
  float* rhs;
  float* residual;
  float* direction;
  float* product;
  float* preconditioner;
  float* zeros;
  float* scores;  // [longest] predictions of a block solve, right-hand sides of a short one
};

struct Row {
  const int32_t* indices;
  const float* confidences;
  int64_t n;
  const float* prior;  // in the basis, or null
  float ridge;
};

Room room_in(float* scratch, int64_t dim) {
  const int64_t panels = dim / kPanel;
  Room room;
  float* next = scratch;
  const auto take = [&next](int64_t count) {
    float* taken = next;
    next += count;
    return taken;
  };
  room.system = take(panel_at(panels));
  room.block = take(2 * kEntries * dim);
  room.units = take(dim * dim);
  room.across = take(dim * dim);
  room.rotated = take(kRowsAtOnce * dim);
  room.turned = take(kRowsAtOnce * dim);
  room.priors = take(kRowsAtOnce * dim);
  float** vectors[] = {&room.inverses,       &room.diagonal,  &room.rhs,
                       &room.residual,       &room.direction, &room.product,
                       &room.preconditioner, &room.zeros};
  for (float** vector : vectors) *vector = take(dim);
  room.scores = next;
  for (int64_t j = 0; j < dim; ++j) room.zeros[j] = 0.0F;
  return room;
}

inline float dot(const float* a, const float* b, int64_t dim) {
  Vec sums = zero();
  for (int64_t j = 0; j < dim; j += kLanes) sums = fma(load(a + j), load(b + j), sums);
  return sum_of(sums);
}

// to += factor * from
inline void add_scaled(float factor, const float* from, float* to, int64_t dim) {
  const Vec f = all(factor);
  for (int64_t j = 0; j < dim; j += kLanes) store(to + j, fma(f, load(from + j), load(to + j)));
}

inline void prefetch_row(const float* row, int64_t dim) {
  for (int64_t j = 0; j < dim; j += 16) __builtin_prefetch(row + j);
}

// What entry e adds to the system: its confidence less the shift. A negative sign of the confidence
// marks a dislike, whose preference is 0: it weighs, but asks for nothing.
inline float weight_of(const AlsHalf& half, const Row& row, int64_t e) {
  return __builtin_fabsf(row.confidences[e]) - half.shift;
}

inline float asked_by(const Row& row, int64_t e) {
  return row.confidences[e] > 0.0F ? row.confidences[e] : 0.0F;
}

inline const float* fixed_row(const AlsHalf& half, const Row& row, int64_t entry) {
  return half.fixed + static_cast<int64_t>(row.indices[entry]) * half.dim;
}

// --- direct ----------------------------------------------------------------------------------

// Copies `count` entries from `first` on, scaled by the root of their weight's size, into panels by
// the sign of the weight; adds what they ask for to `rhs`. Coordinates [begin, begin + 16 panels).
void pack(const AlsHalf& half, const Row& row, int64_t first, int64_t count, int64_t begin,
          int64_t panels, const float* scores, const Room& room, int64_t held[2], float* rhs) {
  held[0] = held[1] = 0;
  for (int64_t e = first; e < first + count; ++e) {
    if (e + 8 < row.n) prefetch_row(fixed_row(half, row, e + 8) + begin, panels * kPanel);
    const float* source = fixed_row(half, row, e) + begin;
    const float weight = weight_of(half, row, e);
    float asked = asked_by(row, e);
    if (scores != nullptr) asked -= weight * scores[e];
    add_scaled(asked, source, rhs, panels * kPanel);
    if (weight == 0.0F) continue;
    const int sign = weight < 0.0F ? 1 : 0;
    const Vec root = all(__builtin_sqrtf(__builtin_fabsf(weight)));
    float* target = room.block + sign * kEntries * half.dim + held[sign] * kPanel;
    for (int64_t p = 0; p < panels; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) {
        store(target + p * kEntries * kPanel + v * kLanes,
              mul(load(source + p * kPanel + v * kLanes), root));
      }
    }
    ++held[sign];
  }
}

// Solves coordinates [begin, begin + 16 panels) of the row, all others as `scores` have them (null:
// all are 0); room.rhs holds what is asked for beyond the entries, then the answer.
bool solve_coordinates(const AlsHalf& half, const Row& row, int64_t begin, int64_t panels,
                       const float* scores, const Room& room) {
  float* system = room.system;
  for (int64_t j = 0; j < panel_at(panels); ++j) system[j] = 0.0F;
  for (int64_t j = 0; j < panels * kPanel; ++j) {
    system[panel_at(j / kPanel) + j * kPanel + j % kPanel] = room.diagonal[begin + j];
  }
  float* part = room.product;
  for (int64_t first = 0; first < row.n; first += kEntries) {
    const int64_t count = first + kEntries < row.n ? kEntries : row.n - first;
    int64_t held[2];
    for (int64_t j = 0; j < panels * kPanel; ++j) part[j] = 0.0F;
    pack(half, row, first, count, begin, panels, scores, room, held, part);
    add_scaled(1.0F, part, room.rhs, panels * kPanel);
    if (held[0] != 0) add_products<false>(room.block, kEntries, held[0], panels, system);
    if (held[1] != 0) {
      add_products<true>(room.block + kEntries * half.dim, kEntries, held[1], panels, system);
    }
  }
  if (!factorize(system, panels, room.inverses)) return false;
  substitute(system, room.inverses, panels, room.rhs);
  return true;
}

void ask_prior(const AlsHalf& half, const Row& row, float* rhs) {
  for (int64_t j = 0; j < half.dim; ++j) rhs[j] = 0.0F;
  if (row.prior != nullptr) add_scaled(row.ridge, row.prior, rhs, half.dim);
}

bool solve_direct(const AlsHalf& half, const Row& row, const Room& room, float* x) {
  ask_prior(half, row, room.rhs);
  if (!solve_coordinates(half, row, 0, half.dim / kPanel, nullptr, room)) return false;
  for (int64_t j = 0; j < half.dim; ++j) x[j] = room.rhs[j];
  return true;
}

// --- short -----------------------------------------------------------------------------------

// Transposes the first `held` rows of U into panels [16 entries][dim]; the rest are zero.
void turn_units(const Room& room, int64_t held, int64_t dim) {
  for (int64_t first = 0; first < held; first += kPanel) {
    float* panel = room.across + first * dim;
    for (int64_t r = 0; r < kPanel; ++r) {
      const float* row = first + r < held ? room.units + (first + r) * dim : room.zeros;
      for (int64_t j = 0; j < dim; ++j) panel[j * kPanel + r] = row[j];
    }
  }
}

bool fits_short(const AlsHalf& half, const Row& row) {
  if (static_cast<double>(row.n) > kShortShare * static_cast<double>(half.dim)) return false;
  for (int64_t e = 0; e < row.n; ++e) {
    if (weight_of(half, row, e) < 0.0F) return false;
  }
  return true;
}

// x = D^-1 b + D^-1/2 U' (I + U U')^-1 (s - U D^-1/2 b): b is asked for by the prior and by entries
// of weight 0, s = c / w^1/2 by the others. Nothing cancels where b is 0.
bool solve_short(const AlsHalf& half, const Row& row, const Room& room, float* x) {
  const int64_t dim = half.dim;
  float* roots = room.preconditioner;  // D^-1/2
  for (int64_t j = 0; j < dim; ++j) {
    if (!(room.diagonal[j] > 0.0F)) return false;
    roots[j] = 1.0F / __builtin_sqrtf(room.diagonal[j]);
  }
  ask_prior(half, row, room.residual);
  bool asked = row.prior != nullptr;
  int64_t held = 0;
  for (int64_t e = 0; e < row.n; ++e) {
    if (e + 8 < row.n) prefetch_row(fixed_row(half, row, e + 8), dim);
    const float* source = fixed_row(half, row, e);
    const float weight = weight_of(half, row, e);
    if (weight == 0.0F) {
      add_scaled(asked_by(row, e), source, room.residual, dim);
      asked = true;
      continue;
    }
    const float root = __builtin_sqrtf(weight);
    float* unit = room.units + held * dim;
    const Vec r = all(root);
    for (int64_t j = 0; j < dim; j += kLanes) {
      store(unit + j, mul(mul(load(source + j), r), load(roots + j)));
    }
    room.scores[held++] = asked_by(row, e) / root;
  }
  for (int64_t j = 0; j < dim; ++j) x[j] = room.residual[j] * roots[j];  // D^-1/2 b
  if (asked) {
    for (int64_t k = 0; k < held; ++k) room.scores[k] -= dot(room.units + k * dim, x, dim);
  }
  const int64_t panels = (held + kPanel - 1) / kPanel;
  if (panels != 0) {
    turn_units(room, held, dim);
    for (int64_t j = 0; j < panel_at(panels); ++j) room.system[j] = 0.0F;
    for (int64_t j = 0; j < panels * kPanel; ++j) {
      room.system[panel_at(j / kPanel) + j * kPanel + j % kPanel] = 1.0F;
    }
    add_products<false>(room.across, dim, dim, panels, room.system);
    if (!factorize(room.system, panels, room.inverses)) return false;
    for (int64_t k = held; k < panels * kPanel; ++k) room.scores[k] = 0.0F;
    substitute(room.system, room.inverses, panels, room.scores);
    for (int64_t k = 0; k < held; ++k) add_scaled(room.scores[k], room.units + k * dim, x, dim);
  }
  for (int64_t j = 0; j < dim; ++j) x[j] *= roots[j];
  return true;
}

// --- conjugate gradients ---------------------------------------------------------------------

// out += sum_e (asked_e - w_e z_e.p) z_e, where asked_e is c_e if kAsk, else 0 and the sign is
// turned: the residual of p, or the product of the entries with p. With kAsk also
// squares += w_e z_e^2.
template <bool kAsk>
void pass(const AlsHalf& half, const Row& row, const float* p, float* out, float* squares,
          const float* zeros) {
  const int64_t dim = half.dim;
  for (int64_t first = 0; first < row.n; first += 4) {
    const float* z[4];
    float weights[4];
    float asked[4];
#pragma GCC unroll 4
    for (int64_t k = 0; k < 4; ++k) {
      const int64_t e = first + k;
      const bool there = e < row.n;
      z[k] = there ? fixed_row(half, row, e) : zeros;
      weights[k] = there ? weight_of(half, row, e) : 0.0F;
      asked[k] = there ? asked_by(row, e) : 0.0F;
      if (e + 12 < row.n) prefetch_row(fixed_row(half, row, e + 12), dim);
    }
    Vec sums[4][2];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) sums[k][0] = sums[k][1] = zero();
    int64_t j = 0;
    for (; j + 2 * kLanes <= dim; j += 2 * kLanes) {
      const Vec p0 = load(p + j);
      const Vec p1 = load(p + j + kLanes);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        sums[k][0] = fma(load(z[k] + j), p0, sums[k][0]);
        sums[k][1] = fma(load(z[k] + j + kLanes), p1, sums[k][1]);
      }
    }
    for (; j < dim; j += kLanes) {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) sums[k][0] = fma(load(z[k] + j), load(p + j), sums[k][0]);
    }
    Vec factors[4];
    Vec scales[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const float score = sum_of(add(sums[k][0], sums[k][1]));
      factors[k] = all(kAsk ? asked[k] - weights[k] * score : weights[k] * score);
      scales[k] = all(weights[k]);
    }
    for (j = 0; j < dim; j += kLanes) {
      Vec total = load(out + j);
      Vec square = kAsk ? load(squares + j) : zero();
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        const Vec value = load(z[k] + j);
        total = fma(factors[k], value, total);
        if (kAsk) square = fma(mul(scales[k], value), value, square);
      }
      store(out + j, total);
      if (kAsk) store(squares + j, square);
    }
  }
}

// Some steps from x; false where the system is not positive definite in float32.
bool solve_cg(const AlsHalf& half, const Row& row, const Room& room, float* x) {
  const int64_t dim = half.dim;
  float* r = room.residual;
  float* p = room.direction;
  float* q = room.product;
  float* scale = room.preconditioner;
  ask_prior(half, row, r);
  for (int64_t j = 0; j < dim; ++j) {
    r[j] -= room.diagonal[j] * x[j];
    scale[j] = room.diagonal[j];
  }
  pass<true>(half, row, x, r, scale, room.zeros);
  for (int64_t j = 0; j < dim; ++j) {
    if (!(scale[j] > 0.0F)) return false;
    scale[j] = 1.0F / scale[j];
    q[j] = scale[j] * r[j];
    p[j] = q[j];
  }
  float size = dot(r, q, dim);
  for (int64_t step = 0; step < half.steps && size > 0.0F; ++step) {
    for (int64_t j = 0; j < dim; ++j) q[j] = room.diagonal[j] * p[j];
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

// --- blocks of coordinates -------------------------------------------------------------------

bool solve_blocks(const AlsHalf& half, const Row& row, const Room& room, float* x) {
  for (int64_t e = 0; e < row.n; ++e) {
    if (e + 8 < row.n) prefetch_row(fixed_row(half, row, e + 8), half.dim);
    room.scores[e] = dot(fixed_row(half, row, e), x, half.dim);
  }
  for (int64_t begin = 0; begin < half.dim; begin += half.block) {
    const int64_t size = begin + half.block < half.dim ? half.block : half.dim - begin;
    for (int64_t j = 0; j < size; ++j) {
      const float prior = row.prior == nullptr ? 0.0F : row.ridge * row.prior[begin + j];
      room.rhs[j] = prior - room.diagonal[begin + j] * x[begin + j];
    }
    if (!solve_coordinates(half, row, begin, size / kPanel, room.scores, room)) return false;
    add_scaled(1.0F, room.rhs, x + begin, size);
    if (begin + size == half.dim) break;
    for (int64_t e = 0; e < row.n; ++e) {
      if (e + 8 < row.n) prefetch_row(fixed_row(half, row, e + 8) + begin, size);
      room.scores[e] += dot(fixed_row(half, row, e) + begin, room.rhs, size);
    }
  }
  return true;
}

// --- float64 ---------------------------------------------------------------------------------

// The plain form, for the few rows that float32 does not carry. The pivot's bound is that of
// rounding in float64.
bool solve_double(const AlsHalf& half, const Row& row, double ridge, float* x) {
  const int64_t dim = half.dim;
  double* a = static_cast<double*>(
      __builtin_malloc(static_cast<std::size_t>(dim * dim + dim) * sizeof(double)));
  if (a == nullptr) return false;
  double* b = a + dim * dim;
  for (int64_t j = 0; j < dim * dim; ++j) a[j] = 0.0;
  for (int64_t j = 0; j < dim; ++j) {
    a[j * dim + j] = half.spectrum[j] + ridge;
    b[j] = row.prior == nullptr ? 0.0 : ridge * static_cast<double>(row.prior[j]);
  }
  for (int64_t e = 0; e < row.n; ++e) {
    const float* z = fixed_row(half, row, e);
    const auto weight = static_cast<double>(weight_of(half, row, e));
    const auto asked = static_cast<double>(asked_by(row, e));
    for (int64_t i = 0; i < dim; ++i) {
      const double factor = weight * static_cast<double>(z[i]);
      b[i] += asked * static_cast<double>(z[i]);
      for (int64_t j = i; j < dim; ++j) a[i * dim + j] += factor * static_cast<double>(z[j]);
    }
  }
  bool solved = true;
  for (int64_t i = 0; i < dim && solved; ++i) {
    double* line = a + i * dim;
    const double before = line[i];
    for (int64_t k = 0; k < i; ++k) {
      const double factor = a[k * dim + i];
      for (int64_t j = i; j < dim; ++j) line[j] -= factor * a[k * dim + j];
    }
    solved = line[i] > static_cast<double>(dim) * 2.3e-16 * before;
    const double inverse = 1.0 / __builtin_sqrt(line[i]);
    for (int64_t j = i; j < dim; ++j) line[j] *= inverse;
  }
  for (int64_t i = 0; i < dim && solved; ++i) {
    b[i] /= a[i * dim + i];
    for (int64_t j = i + 1; j < dim; ++j) b[j] -= b[i] * a[i * dim + j];
  }
  for (int64_t i = dim - 1; i >= 0 && solved; --i) {
    for (int64_t j = i + 1; j < dim; ++j) b[i] -= a[i * dim + j] * b[j];
    b[i] /= a[i * dim + i];
    x[i] = static_cast<float>(b[i]);
  }
  __builtin_free(a);
  return solved;
}

// --- rows ------------------------------------------------------------------------------------

// `line` doubles as a condition: false where a solution is not finite.
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

// sums[r][c] += a[l][r] b[l][c] over n packed rows of doubles; the products are exact.
constexpr int kGramRows = 4;
constexpr int kGramColumns = 8;
constexpr int kGramVecs = 2 * kGramColumns / kLanes;
typedef double Doubles __attribute__((vector_size(kLanes * sizeof(float))));

inline Doubles doubles(const double* from) {
  Doubles value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

__attribute__((noinline)) void gram_tile(const double* a, const double* b, int64_t n, double* gram,
                                         int64_t apart) {
  Doubles sums[kGramRows][kGramVecs];
#pragma GCC unroll 4
  for (int r = 0; r < kGramRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kGramVecs; ++v) sums[r][v] = Doubles{};
  }
  for (int64_t l = 0; l < n; ++l) {
    Doubles columns[kGramVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kGramVecs; ++v) {
      columns[v] = doubles(b + l * kGramColumns + v * (kGramColumns / kGramVecs));
    }
#pragma GCC unroll 4
    for (int r = 0; r < kGramRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kGramVecs; ++v) {
        sums[r][v] += columns[v] * a[l * kGramColumns + r];
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kGramRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kGramVecs; ++v) {
      double* target = gram + r * apart + v * (kGramColumns / kGramVecs);
      const Doubles after = doubles(target) + sums[r][v];
      __builtin_memcpy(target, &after, sizeof after);
    }
  }
}

void gram_rows(const float* rows, int64_t n_rows, int64_t width, double* scratch, double* gram) {
  const int64_t dim = (width + kPanel - 1) / kPanel * kPanel;
  constexpr int64_t kHeight = kEntries * kGramColumns;
  double* total = scratch;
  double* block = scratch + dim * dim;
  for (int64_t j = 0; j < dim * dim + kEntries * dim; ++j) scratch[j] = 0.0;
  for (int64_t first = 0; first < n_rows; first += kEntries) {
    const int64_t count = first + kEntries < n_rows ? kEntries : n_rows - first;
    for (int64_t r = 0; r < count; ++r) {
      const float* row = rows + (first + r) * width;
      for (int64_t j = 0; j < width; ++j) {
        block[j / kGramColumns * kHeight + r * kGramColumns + j % kGramColumns] =
            static_cast<double>(row[j]);
      }
    }
    for (int64_t p = 0; p < dim / kGramColumns; ++p) {
      for (int64_t q = 0; q <= p; ++q) {
        for (int64_t r = 0; r < kGramColumns; r += kGramRows) {
          gram_tile(block + p * kHeight + r, block + q * kHeight, count,
                    total + (p * kGramColumns + r) * dim + q * kGramColumns, dim);
        }
      }
    }
  }
  for (int64_t i = 0; i < width; ++i) {
    for (int64_t j = 0; j <= i; ++j) gram[i * width + j] += total[i * dim + j];
  }
}

double observed_loss(const AlsEntries& entries, int64_t start, int64_t stop) {
  const int64_t width = entries.width;
  double total = 0.0;
  for (int64_t r = start; r < stop; ++r) {
    const float* x = entries.rows + r * width;
    for (int64_t e = entries.indptr[r]; e < entries.indptr[r + 1]; ++e) {
      if (e + 8 < entries.indptr[stop]) {
        prefetch_row(entries.columns + entries.indices[e + 8] * width, width);
      }
      const float* y = entries.columns + entries.indices[e] * width;
      double lanes[8] = {};
      int64_t j = 0;
      for (; j + 8 <= width; j += 8) {
        for (int64_t l = 0; l < 8; ++l) {
          lanes[l] += static_cast<double>(x[j + l]) * static_cast<double>(y[j + l]);
        }
      }
      for (; j < width; ++j) lanes[j % 8] += static_cast<double>(x[j]) * static_cast<double>(y[j]);
      const double score = ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
                           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
      const auto confidence = static_cast<double>(entries.confidences[e]);
      const double size = __builtin_fabs(confidence);
      const double liked = confidence > 0.0 ? 1.0 : 0.0;
      total += size * (liked - score) * (liked - score) -
               static_cast<double>(entries.shift) * score * score;
    }
  }
  return total;
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
