// OpenBLAS: cblas_sgemm on weights as they are, sgemv for one row. The feed-forward net is its two bare products,
// without biases and activation.
#include <cblas.h>
#include <openblas_config.h>
#ifdef GATEFOLD_OPENBLAS_OF_SCIPY  // PyPI's, whose names begin with scipy_
#define cblas_sgemm scipy_cblas_sgemm
#define cblas_sgemv scipy_cblas_sgemv
#define openblas_set_num_threads scipy_openblas_set_num_threads
#endif

#include <memory>

#include "bench/data.hpp"

namespace gatefold::bench {
namespace {

int size_of(Index n) { return static_cast<int>(n); }

/// y = x wᵀ. // x [rows, in], w [out, in]
void multiply(const Tensor<float, 2>& x, const Tensor<float, 2>& w, Tensor<float, 2>& y) {
  const int rows = size_of(x.extent(0)), in = size_of(x.extent(1)), out = size_of(w.extent(0));
  if (rows == 1)
    cblas_sgemv(CblasRowMajor, CblasNoTrans, out, in, 1, w.data(), in, x.data(), 1, 0, y.data(), 1);
  else
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, out, in, 1, x.data(), in, w.data(), in, 0, y.data(),
                out);
}

std::optional<Contender> product(const ProductCase& c) {
  struct Data {
    Tensor<float, 2> x, w, y;
  };
  auto d = std::make_shared<Data>(
      Data{random_rows(c.rows, c.in, 1), random_rows(c.out, c.in, 2), random_rows(c.rows, c.out, 3)});
  const auto run = [d, c] {
    const int rows = size_of(c.rows), in = size_of(c.in), out = size_of(c.out);
    using Form = ProductCase::Form;
    if (c.form == Form::forward)
      multiply(d->x, d->w, d->y);
    else if (c.form == Form::grad_input)
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, in, out, 1, d->y.data(), out, d->w.data(), in, 0,
                  d->x.data(), in);
    else
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, out, in, rows, 1, d->y.data(), out, d->x.data(), in, 1,
                  d->w.data(), in);
  };
  return Contender{run, [threads = c.threads] { openblas_set_num_threads(size_of(threads)); }};
}

std::optional<Contender> ffn(const FfnCase& c) {
  struct Data {
    Tensor<float, 2> x, h, y;
    std::vector<Tensor<float, 2>> up, down;
    std::size_t next = 0;
  };
  auto d = std::make_shared<Data>(Data{random_rows(c.rows, c.width, 1),
                                       Tensor<float, 2>({c.rows, c.hidden}),
                                       Tensor<float, 2>({c.rows, c.width}),
                                       {},
                                       {}});
  for (Index e = 0; e < c.experts; ++e) {
    d->up.push_back(random_rows(c.hidden, c.width, 2));
    d->down.push_back(random_rows(c.width, c.hidden, 3));
  }
  const auto run = [d] {
    const std::size_t e = d->next++ % d->up.size();
    multiply(d->x, d->up[e], d->h);
    multiply(d->h, d->down[e], d->y);
  };
  return Contender{run, [threads = c.threads] { openblas_set_num_threads(size_of(threads)); }};
}

/// «0.3.21» of « OpenBLAS 0.3.21 ».
std::string version() {
  const std::string text = OPENBLAS_VERSION;
  const auto begin = text.find_first_of("0123456789");
  return text.substr(begin, text.find_last_not_of(' ') + 1 - begin);
}

const RegisterPeer kOpenblas({.name = "OpenBLAS",
                              .version = version(),
                              .formats = {Format::fp32},
                              .product = product,
                              .product_grad = product,
                              .ffn = ffn});

}  // namespace
}  // namespace gatefold::bench
