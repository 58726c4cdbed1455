// Encoding an index's vectors: allocates the table, splits the rows over the pool.
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/registration.h"
#include "bindings/rows.h"
#include "core/aligned.h"
#include "core/quantize.h"
#include "core/thread_pool.h"

namespace py = pybind11;

namespace recengine {

namespace {

constexpr int64_t kChunkRows = 8192;  // fixed, so that the mean does not depend on threads
constexpr double kSmallestMean = 0x1p-40;
constexpr double kWorthwhileMean = 0.125;  // of the root mean square of |y|

using OrderArray = py::array_t<int64_t, py::array::c_style>;
using DoubleArray = py::array_t<double, py::array::c_style>;

// Bytes owned by the array, in huge pages: a single query reads all of a table, and fewer page
// walks are a tenth of its time.
py::array_t<uint8_t> aligned_bytes(int64_t count) {
  void* memory = allocate_table(static_cast<size_t>(count));
  if (memory == nullptr) throw std::bad_alloc();
  const py::capsule owner(memory, [](void* p) { free_aligned(p); });
  return py::array_t<uint8_t>(count, static_cast<uint8_t*>(memory), owner);
}

struct Work {
  CodeSource source;
  CodeTable table;
  std::vector<double> sums;  // [chunk][dim]
  int64_t n_panels;
};

void add_chunk(void* context, int64_t chunk) {
  Work* work = static_cast<Work*>(context);
  const int64_t first = chunk * kChunkRows;
  add_rows(work->source, first, std::min(first + kChunkRows, work->source.n),
           work->sums.data() + chunk * work->source.dim);
}

void encode_chunk(void* context, int64_t chunk) {
  Work* work = static_cast<Work*>(context);
  const int64_t first = chunk * (kChunkRows / kPanelRows);
  quantize_panels(work->source, first, std::min(first + kChunkRows / kPanelRows, work->n_panels),
                  work->table);
}

double power_of_two_above(double value) {
  int exponent = 0;
  std::frexp(value, &exponent);
  return value > 0 ? std::ldexp(1.0, exponent) : 1.0;
}

// The root mean square of all |y| 2^-exponent.
double mean_length(const CodeSource& source) {
  double square = 0;
  for (int64_t slot = 0; slot < source.n; ++slot) {
    const double own = source.sq_norm[source.order == nullptr ? slot : source.order[slot]];
    if (source.metric == Metric::kCosine) {
      square += own > 0 ? 1 : 0;
    } else {
      square += own * source.unit * source.unit;
    }
  }
  return std::sqrt(square / static_cast<double>(std::max<int64_t>(source.n, 1)));
}

// The mean of all y 2^-exponent; nothing where it is too short to be told from noise, or to be
// worth the bias that it gives every item.
std::vector<double> mean_of(Work* work, int64_t n_chunks, int num_threads) {
  const int64_t dim = work->source.dim;
  work->sums.assign(static_cast<size_t>(n_chunks * dim), 0.0);
  parallel_for(n_chunks, num_threads, add_chunk, work);
  std::vector<double> mean(static_cast<size_t>(dim), 0.0);
  double square = 0;
  for (int64_t j = 0; j < dim; ++j) {
    for (int64_t c = 0; c < n_chunks; ++c) {
      mean[static_cast<size_t>(j)] += work->sums[static_cast<size_t>(c * dim + j)];
    }
    mean[static_cast<size_t>(j)] /= static_cast<double>(std::max<int64_t>(work->source.n, 1));
    square += mean[static_cast<size_t>(j)] * mean[static_cast<size_t>(j)];
  }
  const double worthwhile =
      work->source.metric == Metric::kL2 ? 0.0 : kWorthwhileMean * mean_length(work->source);
  if (std::sqrt(square) < std::max(kSmallestMean, worthwhile)) {
    std::fill(mean.begin(), mean.end(), 0.0);
  }
  work->sums.clear();
  work->sums.shrink_to_fit();
  return mean;
}

void check_shape(const OrderArray& order, int64_t n) {
  require(order.ndim() == 1, "order must be 1-D, got " + std::to_string(order.ndim()) + " dims");
  require(order.shape(0) <= n, "order must have at most one entry per vector (" +
                                   std::to_string(n) + "), got " + std::to_string(order.shape(0)));
}

// The row of each slot: a permutation, or some of the rows; none is coded twice.
void check_order(const int64_t* order, int64_t n_coded, int64_t n) {
  std::vector<bool> seen(static_cast<size_t>(n), false);
  for (int64_t i = 0; i < n_coded; ++i) {
    const int64_t row = order[i];
    if (row < 0 || row >= n || seen[static_cast<size_t>(row)]) {
      require(false, "order must hold different rows, got " + std::to_string(row) + " at " +
                         std::to_string(i));
    }
    seen[static_cast<size_t>(row)] = true;
  }
}

py::dict encode(const py::array& vectors, const DoubleArray& sq_norms, int metric, int num_threads,
                const std::optional<OrderArray>& order, bool with_facts) {
  const auto [rows, n] = rows_of(vectors, "vectors");
  const int64_t dim = rows.dim;
  require(dim >= 1, "vectors must have at least one column, got 0");
  require(dim <= 65536, "vectors must have at most 65536 columns, got " + std::to_string(dim));
  require(sq_norms.ndim() == 1 && sq_norms.shape(0) == n,
          "sq_norms must have one entry per vector (" + std::to_string(n) + ")");
  require(metric >= 0 && metric <= 2, "metric must be 0, 1 or 2, got " + std::to_string(metric));
  require(num_threads >= 1, "num_threads must be >= 1, got " + std::to_string(num_threads));
  const bool fits = n <= std::numeric_limits<int32_t>::max();
  if (order) check_shape(*order, n);
  require(!order || fits, "order must be None for " + std::to_string(n) + " vectors");
  const int64_t n_coded = order ? order->shape(0) : n;
  const int64_t n_panels = (n_coded + kPanelRows - 1) / kPanelRows;
  const int64_t slots = n_panels * kPanelRows;
  const int64_t n_chunks = (n_coded + kChunkRows - 1) / kChunkRows;
  const int64_t pairs = code_pairs(dim);
  py::array_t<uint8_t> high = aligned_bytes(n_panels * high_stride(pairs));
  py::array_t<uint8_t> low = aligned_bytes(n_panels * pairs * kPanelBytes);
  py::array_t<float> residual({int64_t{2}, with_facts ? slots : 0});
  py::array_t<float> length({int64_t{2}, with_facts ? slots : 0});
  DoubleArray mean_out(dim);
  double unit = 1;
  bool rows_inside = false;
  Work work{
      {rows, sq_norms.data(), nullptr, order ? order->data() : nullptr, 1.0, n_coded, dim,
       static_cast<Metric>(metric), false, false},
      {high.mutable_data(), low.mutable_data(), with_facts ? residual.mutable_data() : nullptr,
       with_facts ? length.mutable_data() : nullptr, slots},
      {},
      n_panels};
  {
    const py::gil_scoped_release release;
    if (order) check_order(order->data(), n_coded, n);
    if (metric != static_cast<int>(Metric::kCosine) && n > 0) {
      const double largest = *std::max_element(work.source.sq_norm, work.source.sq_norm + n);
      unit = 1.0 / power_of_two_above(std::sqrt(largest));
    }
    work.source.unit = unit;
    const std::vector<double> mean = mean_of(&work, n_chunks, num_threads);
    work.source.mean = mean.data();
    work.source.shares = metric != static_cast<int>(Metric::kL2) &&
                         std::all_of(mean.begin(), mean.end(), [](double m) { return m == 0; });
    work.source.sorts = work.source.shares && !order && fits;
    parallel_for(n_chunks, num_threads, encode_chunk, &work);
    std::copy(mean.begin(), mean.end(), mean_out.mutable_data());
    rows_inside = work.source.sorts && !unsort(work.table, n_coded, dim);
  }
  py::dict codes;
  codes["high"] = high;
  codes["low"] = low;
  if (with_facts) {
    codes["residual"] = residual;
    codes["length"] = length;
  }
  codes["mean"] = mean_out;
  codes["unit"] = unit;
  codes["rows_inside"] = rows_inside;
  if (order) {
    py::array_t<int32_t> out(n_coded);
    std::transform(order->data(), order->data() + n_coded, out.mutable_data(),
                   [](int64_t row) { return static_cast<int32_t>(row); });
    codes["order"] = out;
  }
  return codes;
}

}  // namespace

void register_quantize(py::module_& m) {
  m.def("encode", encode, py::arg("vectors").noconvert(), py::arg("sq_norms").noconvert(),
        py::arg("metric"), py::arg("num_threads") = 1, py::arg("order") = py::none(),
        py::arg("with_facts") = false,
        "Int8 codes of the rows and the bounds of their error: what the certified scan reads. "
        "`with_facts` adds residual and length of each row, of which the panels hold the largest.");
}

}  // namespace recengine
