// Rows of factors, in arrays of exactly the promised length: every tail of factors, entries and
// rows, every way to solve and every sign of weight, at every level; what comes out must solve the
// system, and Gram matrices and losses must be those of plain loops.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>

#include "arrays.h"
#include "check.h"
#include "simd/als.h"
#include "simd/dispatch.h"

namespace {

using recengine::AlsEntries;
using recengine::AlsHalf;
using recengine::AlsKernels;
using recengine::AlsSolver;
using recengine::kFactorPanel;

std::mt19937_64 g_random(20251128);

float value() {
  std::normal_distribution<float> normal;
  return normal(g_random);
}

struct Case {
  int64_t width;
  int64_t n_rows;
  int64_t n_fixed;
  int64_t most;  // entries of a row
  float shift;
  bool dislikes;
};

void check(const AlsKernels& kernels, const Case& c, AlsSolver solver, bool with_prior) {
  const int64_t dim = (c.width + kFactorPanel - 1) / kFactorPanel * kFactorPanel;
  const Array<int64_t> indptr(c.n_rows + 1);
  indptr[0] = 0;
  int64_t longest = 0;
  for (int64_t r = 0; r < c.n_rows; ++r) {
    const int64_t n = static_cast<int64_t>(g_random() % static_cast<uint64_t>(c.most + 1));
    indptr[r + 1] = indptr[r] + n;
    longest = std::max(longest, n);
  }
  const int64_t n_entries = indptr[c.n_rows];
  const Array<int32_t> indices(n_entries);
  const Array<float> confidences(n_entries);
  for (int64_t e = 0; e < n_entries; ++e) {
    indices[e] = static_cast<int32_t>(g_random() % static_cast<uint64_t>(c.n_fixed));
    confidences[e] = static_cast<float>(1 + g_random() % 3) * (e % 4 == 1 ? 0.5F : 1.0F);
    if (c.dislikes && e % 5 == 2) confidences[e] = -confidences[e];
  }
  const Array<float> fixed(c.n_fixed * dim);
  for (int64_t i = 0; i < c.n_fixed * dim; ++i) fixed[i] = i % dim < c.width ? value() : 0.0F;
  // The basis is the unit matrix: rotating changes nothing.
  const Array<double> spectrum(dim);
  const Array<float> into(dim * c.width);
  const Array<float> out_of(dim * dim);
  for (int64_t j = 0; j < dim; ++j) spectrum[j] = j < c.width ? 40.0 + static_cast<double>(j) : 1.0;
  for (int64_t p = 0; p < dim / kFactorPanel; ++p) {
    for (int64_t l = 0; l < dim; ++l) {
      for (int64_t k = 0; k < kFactorPanel; ++k) {
        const float one = l == p * kFactorPanel + k ? 1.0F : 0.0F;
        out_of[(p * dim + l) * kFactorPanel + k] = one;
        if (l < c.width) into[(p * c.width + l) * kFactorPanel + k] = one;
      }
    }
  }
  const Array<double> ridges(c.n_rows);
  const Array<float> prior(c.n_rows * c.width);
  const Array<float> solved(c.n_rows * c.width);
  for (int64_t r = 0; r < c.n_rows; ++r) ridges[r] = 0.5 + static_cast<double>(r % 3);
  for (int64_t j = 0; j < c.n_rows * c.width; ++j) {
    prior[j] = value();
    solved[j] = 0.0F;
  }
  const AlsHalf half{indptr.data(), indices.data(),  confidences.data(),
                     c.shift,       fixed.data(),    dim,
                     c.width,       spectrum.data(), ridges.data(),
                     into.data(),   out_of.data(),   with_prior ? prior.data() : nullptr,
                     solved.data(), solver,          60,
                     kFactorPanel};
  const Array<float> scratch(recengine::als_scratch_floats(dim, longest));
  const int64_t split = c.n_rows / 3;
  const int64_t passes = solver == AlsSolver::kBlock ? 60 : 1;
  for (int64_t pass = 0; pass < passes; ++pass) {
    CHECK(kernels.solve_rows(half, 0, split, scratch.data()) == -1, "%s", kernels.name);
    CHECK(kernels.solve_rows(half, split, c.n_rows, scratch.data()) == -1, "%s", kernels.name);
  }
  for (int64_t r = 0; r < c.n_rows; ++r) {
    const float* x = solved.data() + r * c.width;
    const bool empty = indptr[r] == indptr[r + 1];
    double worst = 0.0;
    double size = 1.0;
    for (int64_t i = 0; i < c.width; ++i) {
      const double pull = with_prior ? static_cast<double>(prior[r * c.width + i]) : 0.0;
      if (empty) {
        CHECK(static_cast<double>(x[i]) == pull, "row %d is not its prior", static_cast<int>(r));
        continue;
      }
      double gap = (spectrum[i] + ridges[r]) * static_cast<double>(x[i]) - ridges[r] * pull;
      for (int64_t e = indptr[r]; e < indptr[r + 1]; ++e) {
        const float* z = fixed.data() + indices[e] * dim;
        double score = 0.0;
        for (int64_t j = 0; j < c.width; ++j) {
          score += static_cast<double>(z[j]) * static_cast<double>(x[j]);
        }
        const double confidence = static_cast<double>(confidences[e]);
        const double weight = std::fabs(confidence) - static_cast<double>(c.shift);
        gap += (weight * score - std::max(confidence, 0.0)) * static_cast<double>(z[i]);
        size = std::max(size, std::fabs(confidence * static_cast<double>(z[i])));
      }
      worst = std::max(worst, std::fabs(gap));
    }
    CHECK(worst <= 2e-3 * size * std::sqrt(1.0 + static_cast<double>(c.most)),
          "%s width %d solver %d row %d: off by %g", kernels.name, static_cast<int>(c.width),
          static_cast<int>(solver), static_cast<int>(r), worst);
  }
}

void check_sums(const AlsKernels& kernels, int64_t n, int64_t width) {
  const int64_t dim = (width + kFactorPanel - 1) / kFactorPanel * kFactorPanel;
  const Array<float> rows(n * width, 1);
  for (int64_t j = 0; j < n * width; ++j) rows[j] = value();
  const Array<double> scratch(dim * (dim + recengine::kAlsEntries));
  const Array<double> gram(width * width);
  for (int64_t j = 0; j < width * width; ++j) gram[j] = 0.0;
  kernels.gram_rows(rows.data(), n, width, scratch.data(), gram.data());
  for (int64_t i = 0; i < width; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = 0.0;
      for (int64_t r = 0; r < n; ++r) {
        sum += static_cast<double>(rows[r * width + i]) * static_cast<double>(rows[r * width + j]);
      }
      CHECK(std::fabs(sum - gram[i * width + j]) <= 1e-10, "%s gram %d x %d", kernels.name,
            static_cast<int>(n), static_cast<int>(width));
    }
  }
  const Array<int64_t> indptr(n + 1);
  const Array<int32_t> indices(n);
  const Array<float> confidences(n);
  double want = 0.0;
  for (int64_t r = 0; r < n; ++r) {
    indptr[r] = r;
    indices[r] = static_cast<int32_t>(n - 1 - r);
    confidences[r] = r % 3 == 0 ? -2.0F : 1.5F;
    double score = 0.0;
    for (int64_t j = 0; j < width; ++j) {
      score += static_cast<double>(rows[r * width + j]) *
               static_cast<double>(rows[(n - 1 - r) * width + j]);
    }
    const double liked = r % 3 == 0 ? 0.0 : 1.0;
    want += std::fabs(static_cast<double>(confidences[r])) * (liked - score) * (liked - score) -
            0.25 * score * score;
  }
  indptr[n] = n;
  const AlsEntries entries{indptr.data(), indices.data(), confidences.data(), 0.25F, rows.data(),
                           rows.data(),   width};
  const double got = kernels.observed_loss(entries, 0, n);
  CHECK(std::fabs(got - want) <= 1e-9 * (1.0 + std::fabs(want)), "%s loss", kernels.name);
}

}  // namespace

int main() {
  constexpr Case kCases[] = {
      {1, 7, 9, 4, 0.0F, false},    {5, 40, 30, 20, 1.0F, false},  {16, 33, 70, 150, 0.0F, true},
      {17, 20, 50, 30, 1.0F, true}, {47, 35, 90, 70, 0.0F, false}, {64, 5, 300, 200, 0.0F, true},
  };
  for (const recengine::Kernels* level : recengine::available_levels()) {
    const AlsKernels& kernels = recengine::als_kernels(*level);
    for (const Case& c : kCases) {
      for (const AlsSolver solver : {AlsSolver::kCholesky, AlsSolver::kCg, AlsSolver::kBlock}) {
        check(kernels, c, solver, false);
        check(kernels, c, solver, true);
      }
    }
    for (const int64_t n : {1, 63, 64, 130}) {
      for (const int64_t width : {1, 8, 15, 33}) check_sums(kernels, n, width);
    }
  }
  std::puts("ok");
  return 0;
}
