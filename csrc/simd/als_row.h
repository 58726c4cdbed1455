// One row's system, solved in one of four ways, for the file of one instruction set (see
// als_tiles.h, which says how it is included; cg is in als_cg.h, double in als_double.h).
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

// --- blocks of coordinates -------------------------------------------------------------------

bool solve_blocks(const AlsHalf& half, const Row& row, const Room& room, float* x) {
  for (int64_t e = 0; e < row.n; ++e) {
    if (e + 8 < row.n) prefetch_row(fixed_row(half, row, e + 8), half.dim);
    room.scores[e] = dot(fixed_row(half, row, e), x, half.dim);
  }
  // From the directions in which most rows lie to those in which few do: the first say most.
  for (int64_t end = half.dim; end > 0; end -= half.block) {
    const int64_t begin = end > half.block ? end - half.block : 0;
    const int64_t size = end - begin;
    for (int64_t j = 0; j < size; ++j) {
      const float prior = row.prior == nullptr ? 0.0F : row.ridge * row.prior[begin + j];
      room.rhs[j] = prior - room.diagonal[begin + j] * x[begin + j];
    }
    if (!solve_coordinates(half, row, begin, size / kPanel, room.scores, room)) return false;
    add_scaled(1.0F, room.rhs, x + begin, size);
    if (begin == 0) break;
    for (int64_t e = 0; e < row.n; ++e) {
      if (e + 8 < row.n) prefetch_row(fixed_row(half, row, e + 8) + begin, size);
      room.scores[e] += dot(fixed_row(half, row, e) + begin, room.rhs, size);
    }
  }
  return true;
}
