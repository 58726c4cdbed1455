// Dense systems in panels of 16 columns, for the file of one instruction set: it defines Vec and
// its operations and includes this inside its own unnamed namespace, so that nothing is shared.
//
// A symmetric system of 16 P unknowns is its upper triangle: panel q holds rows 0 to 16 q + 15 of
// columns 16 q to 16 q + 15, row by row. A block of entries is P panels of [entries][16].

constexpr int64_t kPanel = kFactorPanel;
constexpr int kVecs = static_cast<int>(kPanel) / kLanes;

inline int64_t panel_at(int64_t q) { return kPanel * kPanel * (q * (q + 1) / 2); }

// out[r] (+)= sign * sum_l a[l * inner + r * row] * b[l], for kRows rows of 16 columns.
template <int kRows, bool kSubtract, bool kPacked>
__attribute__((noinline)) void tile(const float* a, int64_t inner, int64_t row, const float* b,
                                    int64_t n, float* out, int64_t out_row, bool fresh) {
  Vec sums[kRows][kVecs];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) sums[r][v] = zero();
  }
  const int64_t step = kPacked ? kPanel : inner;
  const int64_t apart = kPacked ? 1 : row;
  for (int64_t l = 0; l < n; ++l) {
    Vec columns[kVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) columns[v] = load(b + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vec factor = all(a[r * apart]);
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) sums[r][v] = fma(factor, columns[v], sums[r][v]);
    }
    a += step;
    b += kPanel;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      float* target = out + r * out_row + v * kLanes;
      if (fresh) {
        store(target, sums[r][v]);
      } else if (kSubtract) {
        store(target, fnma(all(1.0F), sums[r][v], load(target)));
      } else {
        store(target, add(load(target), sums[r][v]));
      }
    }
  }
}

// out (16 x 16, rows 16 apart) (+)= sum_l a[l]' b[l] over n packed rows.
template <bool kSubtract>
void square(const float* a, const float* b, int64_t n, float* out) {
  constexpr int kRest = kPanel % kTileRows;
  int64_t r = 0;
  for (; r + kTileRows <= kPanel; r += kTileRows) {
    tile<kTileRows, kSubtract, true>(a + r, kPanel, 1, b, n, out + r * kPanel, kPanel, false);
  }
  if constexpr (kRest != 0) {
    tile<kRest, kSubtract, true>(a + r, kPanel, 1, b, n, out + r * kPanel, kPanel, false);
  }
}

// Adds (or subtracts) the products of n packed entries, `height` apart a panel, to a system.
template <bool kSubtract>
void add_products(const float* block, int64_t height, int64_t n, int64_t panels, float* system) {
  for (int64_t q = 0; q < panels; ++q) {
    const float* columns = block + q * height * kPanel;
    for (int64_t p = 0; p <= q; ++p) {
      square<kSubtract>(block + p * height * kPanel, columns, n,
                        system + panel_at(q) + p * kPanel * kPanel);
    }
  }
}

// rows[i] -= corner[j][i] rows[j] for j < i: divides 16 rows of a panel by the corner's transpose.
inline void divide_rows(const float* corner, const float* inverses, float* rows) {
  for (int64_t j = 0; j < kPanel; ++j) {
    Vec pivot[kVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      pivot[v] = mul(load(rows + j * kPanel + v * kLanes), all(inverses[j]));
      store(rows + j * kPanel + v * kLanes, pivot[v]);
    }
    for (int64_t i = j + 1; i < kPanel; ++i) {
      const Vec factor = all(corner[j * kPanel + i]);
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) {
        float* target = rows + i * kPanel + v * kLanes;
        store(target, fnma(factor, pivot[v], load(target)));
      }
    }
  }
}

// Factorizes the 16 x 16 corner in place; false where a pivot is lost in rounding.
inline bool factorize_corner(float* corner, float* inverses) {
  float before[kPanel];
  for (int64_t i = 0; i < kPanel; ++i) before[i] = inverses[i];
  for (int64_t i = 0; i < kPanel; ++i) {
    float* row = corner + i * kPanel;
    const float pivot = row[i];
    if (!(pivot > kLeastPivot * before[i]) || !(pivot < kLargestPivot)) return false;
    const float inverse = 1.0F / __builtin_sqrtf(pivot);
    inverses[i] = inverse;
    Vec scaled[kVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      scaled[v] = mul(load(row + v * kLanes), all(inverse));
      store(row + v * kLanes, scaled[v]);
    }
    for (int64_t r = i + 1; r < kPanel; ++r) {
      const Vec factor = all(row[r]);
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) {
        float* target = corner + r * kPanel + v * kLanes;
        store(target, fnma(factor, scaled[v], load(target)));
      }
    }
  }
  return true;
}

// Replaces the system A by U with U'U = A; inverses[16 P] of U's diagonal. False where float32 does
// not carry it: a pivot below kLeastPivot of its diagonal.
bool factorize(float* system, int64_t panels, float* inverses) {
  for (int64_t q = 0; q < panels; ++q) {
    float* columns = system + panel_at(q);
    for (int64_t i = 0; i < kPanel; ++i) {
      inverses[q * kPanel + i] = columns[(q * kPanel + i) * kPanel + i];
    }
    for (int64_t p = 0; p <= q; ++p) {
      float* target = columns + p * kPanel * kPanel;
      if (p != 0) square<true>(system + panel_at(p), columns, p * kPanel, target);
      if (p == q) {
        if (!factorize_corner(target, inverses + q * kPanel)) return false;
      } else {
        divide_rows(system + panel_at(p) + p * kPanel * kPanel, inverses + p * kPanel, target);
      }
    }
  }
  return true;
}

// Solves U'U x = rhs in place.
void substitute(const float* system, const float* inverses, int64_t panels, float* rhs) {
  for (int64_t q = 0; q < panels; ++q) {
    const float* columns = system + panel_at(q);
    float* own = rhs + q * kPanel;
    Vec sums[kVecs];
    for (int v = 0; v < kVecs; ++v) sums[v] = load(own + v * kLanes);
    for (int64_t l = 0; l < q * kPanel; ++l) {
      const Vec factor = all(rhs[l]);
      for (int v = 0; v < kVecs; ++v) {
        sums[v] = fnma(factor, load(columns + l * kPanel + v * kLanes), sums[v]);
      }
    }
    for (int v = 0; v < kVecs; ++v) store(own + v * kLanes, sums[v]);
    const float* corner = columns + q * kPanel * kPanel;
    for (int64_t i = 0; i < kPanel; ++i) {
      own[i] *= inverses[q * kPanel + i];
      for (int64_t j = i + 1; j < kPanel; ++j) own[j] -= own[i] * corner[i * kPanel + j];
    }
  }
  for (int64_t q = panels - 1; q >= 0; --q) {
    const float* columns = system + panel_at(q);
    const float* corner = columns + q * kPanel * kPanel;
    float* own = rhs + q * kPanel;
    for (int64_t i = kPanel - 1; i >= 0; --i) {
      float value = own[i];
      for (int64_t j = i + 1; j < kPanel; ++j) value -= corner[i * kPanel + j] * own[j];
      own[i] = value * inverses[q * kPanel + i];
    }
    Vec found[kVecs];
    for (int v = 0; v < kVecs; ++v) found[v] = load(own + v * kLanes);
    for (int64_t l = 0; l < q * kPanel; ++l) {
      Vec products = mul(found[0], load(columns + l * kPanel));
      for (int v = 1; v < kVecs; ++v) {
        products = fma(found[v], load(columns + l * kPanel + v * kLanes), products);
      }
      rhs[l] -= sum_of(products);
    }
  }
}
