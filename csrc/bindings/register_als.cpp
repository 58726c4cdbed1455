// One half of an epoch of alternating least squares: arrays checked once, rows solved in ranges.
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/registration.h"
#include "core/aligned.h"
#include "simd/als.h"
#include "simd/dispatch.h"
#include "simd/float_mode.h"

namespace py = pybind11;

namespace recengine {

namespace {

using Int32Array = py::array_t<int32_t, py::array::c_style>;
using Int64Array = py::array_t<int64_t, py::array::c_style>;
using DoubleArray = py::array_t<double, py::array::c_style>;

constexpr int64_t kLargestDim = int64_t{1} << 14;

AlsSolver solver_named(const std::string& name) {
  if (name == "cholesky") return AlsSolver::kCholesky;
  if (name == "cg") return AlsSolver::kCg;
  if (name == "block") return AlsSolver::kBlock;
  throw py::value_error("solver must be cholesky, cg or block, got '" + name + "'");
}

const AlsKernels& kernels_of(const std::string& level) {
  return als_kernels(level.empty() ? current_level() : level_named(level));
}

// Panels [dim / 16][rows][16].
void require_panels(const FloatArray& panels, int64_t dim, int64_t rows, const char* name) {
  require(panels.ndim() == 3 && panels.shape(0) == dim / kFactorPanel && panels.shape(1) == rows &&
              panels.shape(2) == kFactorPanel,
          std::string(name) + " must be panels of shape (" + std::to_string(dim / kFactorPanel) +
              ", " + std::to_string(rows) + ", 16)");
}

// Refuses what a kernel would read outside of, in rows [start, stop).
void require_entries(const Int64Array& indptr, const Int32Array& indices,
                     const FloatArray& confidences, int64_t n_rows, int64_t n_columns,
                     int64_t start, int64_t stop) {
  require(indptr.ndim() == 1 && indptr.shape(0) == n_rows + 1,
          "indptr must have one entry a row, and one");
  require(
      confidences.ndim() == 1 && indices.ndim() == 1 && indices.shape(0) == confidences.shape(0),
      "indices and confidences must be 1-D and of one length");
  require(0 <= start && start <= stop && stop <= n_rows,
          "start and stop must lie in [0, " + std::to_string(n_rows) + "]");
  const int64_t* bounds = indptr.data();
  const int32_t* columns = indices.data();
  bool sound = bounds[start] >= 0 && bounds[stop] <= indices.shape(0);
  {
    const py::gil_scoped_release released;
    for (int64_t row = start; row < stop; ++row) sound &= bounds[row] <= bounds[row + 1];
    int32_t low = 0;
    int32_t high = -1;
    for (int64_t e = bounds[start]; sound && e < bounds[stop]; ++e) {
      low = std::min(low, columns[e]);
      high = std::max(high, columns[e]);
    }
    sound = sound && low >= 0 && high < n_columns;
  }
  require(sound,
          "indptr must rise from 0 to at most the number of indices, which must lie in [0, " +
              std::to_string(n_columns) + ")");
}

using Scratch = std::unique_ptr<float, void (*)(void*)>;

Scratch scratch_for(int64_t dim, int64_t longest) {
  const auto bytes = static_cast<size_t>(als_scratch_floats(dim, longest)) * sizeof(float);
  Scratch scratch(static_cast<float*>(allocate_aligned(64, bytes)), free_aligned);
  if (scratch == nullptr) throw std::bad_alloc();
  return scratch;
}

class Half {
 public:
  Half(Int64Array indptr, Int32Array indices, FloatArray confidences, float shift, FloatArray fixed,
       DoubleArray spectrum, DoubleArray ridges, FloatArray into_basis, FloatArray out_of_basis,
       std::optional<FloatArray> prior, FloatArray solved, const std::string& solver, int64_t steps,
       int64_t block, const std::string& level)
      : kernels_(kernels_of(level)),
        indptr_(std::move(indptr)),
        indices_(std::move(indices)),
        confidences_(std::move(confidences)),
        fixed_(std::move(fixed)),
        spectrum_(std::move(spectrum)),
        ridges_(std::move(ridges)),
        into_basis_(std::move(into_basis)),
        out_of_basis_(std::move(out_of_basis)),
        prior_(std::move(prior)),
        solved_(std::move(solved)) {
    const auto [n_fixed, dim] = matrix_shape(fixed_, "fixed");
    const auto [n_rows, width] = matrix_shape(solved_, "solved");
    require(dim > 0 && dim % kFactorPanel == 0 && dim <= kLargestDim,
            "fixed must have a multiple of 16 columns, got " + std::to_string(dim));
    require(width > 0 && width <= dim, "solved must have 1 to " + std::to_string(dim) + " columns");
    require(solved_.writeable(), "solved must be writeable");
    require(spectrum_.ndim() == 1 && spectrum_.shape(0) == dim,
            "spectrum must have one entry a column of fixed");
    require(ridges_.ndim() == 1 && ridges_.shape(0) == n_rows,
            "ridges must have one entry a row of solved");
    require_panels(into_basis_, dim, width, "into_basis");
    require_panels(out_of_basis_, dim, dim, "out_of_basis");
    require(steps >= 0, "steps must be >= 0, got " + std::to_string(steps));
    require(block > 0 && block % kFactorPanel == 0,
            "block must be a positive multiple of 16, got " + std::to_string(block));
    if (prior_) {
      const auto [rows, columns] = matrix_shape(*prior_, "prior");
      require(rows == n_rows && columns == width, "prior must have the shape of solved");
    }
    require_entries(indptr_, indices_, confidences_, n_rows, n_fixed, 0, n_rows);
    half_ = AlsHalf{indptr_.data(),
                    indices_.data(),
                    confidences_.data(),
                    shift,
                    fixed_.data(),
                    dim,
                    width,
                    spectrum_.data(),
                    ridges_.data(),
                    into_basis_.data(),
                    out_of_basis_.data(),
                    prior_ ? prior_->data() : nullptr,
                    solved_.mutable_data(),
                    solver_named(solver),
                    steps,
                    block};
  }

  int64_t solve(int64_t start, int64_t stop) const {
    const int64_t n_rows = indptr_.shape(0) - 1;
    require(0 <= start && start <= stop && stop <= n_rows,
            "start and stop must lie in [0, " + std::to_string(n_rows) + "]");
    const py::gil_scoped_release released;
    const DefaultFloatMode mode;
    int64_t longest = 0;
    for (int64_t row = start; row < stop; ++row) {
      longest = std::max(longest, half_.indptr[row + 1] - half_.indptr[row]);
    }
    const Scratch scratch = scratch_for(half_.dim, longest);
    return kernels_.solve_rows(half_, start, stop, scratch.get());
  }

 private:
  const AlsKernels& kernels_;
  Int64Array indptr_;
  Int32Array indices_;
  FloatArray confidences_;
  FloatArray fixed_;
  DoubleArray spectrum_;
  DoubleArray ridges_;
  FloatArray into_basis_;
  FloatArray out_of_basis_;
  std::optional<FloatArray> prior_;
  FloatArray solved_;
  AlsHalf half_{};
};

// Rows that are gathered at random: in huge pages.
FloatArray table(int64_t n_rows, int64_t n_columns) {
  require(n_rows >= 0 && n_columns > 0, "a table must have >= 0 rows and >= 1 columns");
  void* memory = allocate_table(static_cast<size_t>(n_rows * n_columns) * sizeof(float));
  if (memory == nullptr) throw std::bad_alloc();
  const py::capsule owner(memory, [](void* p) { free_aligned(p); });
  return FloatArray({n_rows, n_columns}, static_cast<float*>(memory), owner);
}

double loss(const Int64Array& indptr, const Int32Array& indices, const FloatArray& confidences,
            float shift, const FloatArray& rows, const FloatArray& columns, int64_t start,
            int64_t stop, const std::string& level) {
  const auto [n_rows, width] = matrix_shape(rows, "rows");
  const auto [n_columns, other] = matrix_shape(columns, "columns");
  require(width == other, "rows and columns must have the same factors");
  require_entries(indptr, indices, confidences, n_rows, n_columns, start, stop);
  const AlsKernels& kernels = kernels_of(level);
  const AlsEntries entries{indptr.data(),  indices.data(), confidences.data(), shift, rows.data(),
                           columns.data(), width};
  const py::gil_scoped_release released;
  const DefaultFloatMode mode;
  return kernels.observed_loss(entries, start, stop);
}

void gram(const FloatArray& rows, DoubleArray& out, int64_t start, int64_t stop,
          const std::string& level) {
  const auto [n_rows, width] = matrix_shape(rows, "rows");
  require(out.ndim() == 2 && out.shape(0) == width && out.shape(1) == width && out.writeable(),
          "out must be writeable, with a row and a column a column of rows");
  require(0 <= start && start <= stop && stop <= n_rows, "start and stop must lie within rows");
  const AlsKernels& kernels = kernels_of(level);
  const float* from = rows.data() + start * width;
  double* to = out.mutable_data();
  const py::gil_scoped_release released;
  const DefaultFloatMode mode;
  const int64_t dim = (width + kFactorPanel - 1) / kFactorPanel * kFactorPanel;
  std::vector<double> scratch(static_cast<size_t>(dim * (dim + kAlsEntries)));
  kernels.gram_rows(from, stop - start, width, scratch.data(), to);
}

void rotate(const FloatArray& rows, const FloatArray& panels, FloatArray& out, int64_t start,
            int64_t stop, const std::string& level) {
  const auto [n_rows, width] = matrix_shape(rows, "rows");
  const auto [n_out, dim] = matrix_shape(out, "out");
  require(dim > 0 && dim % kFactorPanel == 0, "out must have a multiple of 16 columns");
  require(n_out == n_rows && out.writeable(),
          "out must be writeable and have as many rows as rows");
  require_panels(panels, dim, width, "panels");
  require(0 <= start && start <= stop && stop <= n_rows, "start and stop must lie within rows");
  const AlsKernels& kernels = kernels_of(level);
  const float* from = rows.data() + start * width;
  const float* columns = panels.data();
  float* to = out.mutable_data() + start * dim;
  const py::gil_scoped_release released;
  const DefaultFloatMode mode;
  kernels.rotate_rows(from, stop - start, width, columns, dim, to);
}

}  // namespace

void register_als(py::module_& m) {
  py::class_<Half>(m, "AlsHalf", "All rows of one side, to be solved against the other side.")
      .def(py::init<Int64Array, Int32Array, FloatArray, float, FloatArray, DoubleArray, DoubleArray,
                    FloatArray, FloatArray, std::optional<FloatArray>, FloatArray,
                    const std::string&, int64_t, int64_t, const std::string&>(),
           py::arg("indptr").noconvert(), py::arg("indices").noconvert(),
           py::arg("confidences").noconvert(), py::arg("shift"), py::arg("fixed").noconvert(),
           py::arg("spectrum").noconvert(), py::arg("ridges").noconvert(),
           py::arg("into_basis").noconvert(), py::arg("out_of_basis").noconvert(),
           py::arg("prior").noconvert(), py::arg("solved").noconvert(), py::arg("solver"),
           py::arg("steps"), py::arg("block"), py::arg("level") = "")
      .def("solve", &Half::solve, py::arg("start"), py::arg("stop"),
           "Solve rows [start, stop) without the GIL; -1, or the first row that cannot be solved.");
  m.def("float_table", table, py::arg("n_rows"), py::arg("n_columns"),
        "An uninitialized (n_rows, n_columns) float32 array, in huge pages where there are any.");
  m.def("als_loss", loss, py::arg("indptr").noconvert(), py::arg("indices").noconvert(),
        py::arg("confidences").noconvert(), py::arg("shift"), py::arg("rows").noconvert(),
        py::arg("columns").noconvert(), py::arg("start"), py::arg("stop"), py::arg("level") = "",
        "What the entries of rows [start, stop) add to the loss, in float64, without the GIL.");
  m.def("add_gram", gram, py::arg("rows").noconvert(), py::arg("out").noconvert(), py::arg("start"),
        py::arg("stop"), py::arg("level") = "",
        "Add the Gram matrix of rows [start, stop) to the lower triangle of out, without the GIL.");
  m.def("rotate_rows", rotate, py::arg("rows").noconvert(), py::arg("panels").noconvert(),
        py::arg("out").noconvert(), py::arg("start"), py::arg("stop"), py::arg("level") = "",
        "out[start:stop] = rows[start:stop] times the panels, without the GIL.");
}

}  // namespace recengine
