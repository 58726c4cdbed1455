// The bare kernels, so that tests can hold each of them against its oracle at every level.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/registration.h"
#include "core/aligned.h"
#include "core/types.h"
#include "simd/dispatch.h"

namespace py = pybind11;

namespace recengine {

namespace {

struct Operands {
  const Kernels& kernels;
  const float* queries;
  const float* items;
  int64_t n_queries;
  int64_t n_items;
  int64_t dim;
};

Operands operands(const FloatArray& queries, const FloatArray& items, const std::string& level) {
  const auto [n_queries, dim] = matrix_shape(queries, "queries");
  const auto [n_items, item_dim] = matrix_shape(items, "items");
  require(dim == item_dim,
          "items must have " + std::to_string(dim) + " columns, got " + std::to_string(item_dim));
  return {level_named(level), queries.data(), items.data(), n_queries, n_items, dim};
}

struct FreeAligned {
  void operator()(float* p) const { free_aligned(p); }
};

std::unique_ptr<float, FreeAligned> aligned_floats(int64_t count) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  auto* p = static_cast<float*>(allocate_aligned(64, bytes));
  if (p == nullptr) throw std::bad_alloc();
  return std::unique_ptr<float, FreeAligned>(p);
}

// Float32 scores by the panel tile (one_by_one: by the row kernel).
FloatArray nominate(const FloatArray& queries, const FloatArray& items, const std::string& metric,
                    const std::string& level, bool one_by_one) {
  require(metric == "dot" || metric == "l2", "metric must be 'dot' or 'l2', got '" + metric + "'");
  const Operands in = operands(queries, items, level);
  const bool dot = metric == "dot";
  FloatArray out({in.n_queries, in.n_items});
  float* scores = out.mutable_data();
  const auto panel = aligned_floats(in.dim * kPanelRows);
  std::vector<float> packed(static_cast<size_t>(in.dim * kTileQueries) + 1);
  std::vector<float> tile(kTileQueries * kPanelRows);
  for (int64_t first = 0; first < in.n_items; first += kPanelRows) {
    const float* rows[kPanelRows];
    const int64_t n_rows = std::min(kPanelRows, in.n_items - first);
    for (int64_t r = 0; r < kPanelRows; ++r) {
      rows[r] = in.items + (first + std::min(r, n_rows - 1)) * in.dim;
    }
    if (!one_by_one) in.kernels.pack_panel(rows, in.dim, panel.get());
    const int64_t step = one_by_one ? 1 : kTileQueries;
    for (int64_t q = 0; q < in.n_queries; q += step) {
      const int64_t count = std::min(step, in.n_queries - q);
      const float* query = in.queries + q * in.dim;
      if (one_by_one) {
        (dot ? in.kernels.dot_rows : in.kernels.l2_rows)(query, rows, in.dim, tile.data());
      } else {
        for (int64_t j = 0; j < in.dim; ++j) {
          for (int64_t i = 0; i < count; ++i) {
            packed[static_cast<size_t>(j * count + i)] = query[i * in.dim + j];
          }
        }
        (dot ? in.kernels.dot_panel : in.kernels.l2_panel)(panel.get(), packed.data(), in.dim,
                                                           count, tile.data());
      }
      for (int64_t i = 0; i < count; ++i) {
        std::copy_n(tile.data() + i * kPanelRows, n_rows, scores + (q + i) * in.n_items + first);
      }
    }
  }
  return out;
}

// Canonical float64 sums of every pair.
py::array_t<double> canonical(const FloatArray& queries, const FloatArray& items,
                              const std::string& kind, const std::string& level) {
  require(kind == "dot" || kind == "sqdist", "kind must be 'dot' or 'sqdist', got '" + kind + "'");
  const Operands in = operands(queries, items, level);
  py::array_t<double> out({in.n_queries, in.n_items});
  double* sums = out.mutable_data();
  const auto sum = kind == "dot" ? in.kernels.canonical_dot : in.kernels.canonical_sqdist;
  for (int64_t q = 0; q < in.n_queries; ++q) {
    for (int64_t i = 0; i < in.n_items; ++i) {
      sums[q * in.n_items + i] = sum(in.queries + q * in.dim, in.items + i * in.dim, in.dim);
    }
  }
  return out;
}

}  // namespace

void register_kernels(py::module_& m) {
  m.def("nominate", nominate, py::arg("queries").noconvert(), py::arg("items").noconvert(),
        py::arg("metric"), py::arg("level"), py::arg("one_by_one") = false,
        "Float32 scores (n_queries, n_items) of the nominating kernels: for tests.");
  m.def("canonical", canonical, py::arg("queries").noconvert(), py::arg("items").noconvert(),
        py::arg("kind"), py::arg("level"),
        "Float64 canonical sums (n_queries, n_items), 'dot' or 'sqdist': for tests.");
}

}  // namespace recengine
