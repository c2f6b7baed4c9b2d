// Eigen: products on row-major maps. The feed-forward net is its two bare products, without biases and activation,
// which Eigen would need further passes for: it is given that work.
#include <memory>

#include "bench/data.hpp"
#include "gatefold/simd/simd.hpp"
// After simd.hpp, which silences false warnings of the intrinsic headers that both include.
#include "gatefold/interop/eigen.hpp"

namespace gatefold::bench {
namespace {

void pin_eigen(Index threads) { Eigen::setNbThreads(static_cast<int>(threads)); }

std::optional<Contender> product(const ProductCase& c) {
  struct Data {
    Tensor<float, 2> x, w, y;
  };
  auto d = std::make_shared<Data>(
      Data{random_rows(c.rows, c.in, 1), random_rows(c.out, c.in, 2), random_rows(c.rows, c.out, 3)});
  using Form = ProductCase::Form;
  const auto run = [d, form = c.form] {
    auto x = as_eigen(d->x), w = as_eigen(d->w), y = as_eigen(d->y);
    if (form == Form::grad_input) {
      x.noalias() = y * w;
    } else if (form == Form::add_grad_weight) {
      w.noalias() += y.transpose() * x;
    } else if (x.rows() == 1) {
      y.row(0).transpose().noalias() = w * x.row(0).transpose();  // the vector path
    } else {
      y.noalias() = x * w.transpose();
    }
  };
  return Contender{run, [threads = c.threads] { pin_eigen(threads); }};
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
    auto x = as_eigen(d->x), h = as_eigen(d->h), y = as_eigen(d->y), up = as_eigen(d->up[e]),
         down = as_eigen(d->down[e]);
    if (x.rows() == 1) {
      h.row(0).transpose().noalias() = up * x.row(0).transpose();
      y.row(0).transpose().noalias() = down * h.row(0).transpose();
    } else {
      h.noalias() = x * up.transpose();
      y.noalias() = h * down.transpose();
    }
  };
  return Contender{run, [threads = c.threads] { pin_eigen(threads); }};
}

const RegisterPeer kEigen({.name = "Eigen",
                           .version = version_text({EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION}),
                           .formats = {Format::fp32},
                           .product = product,
                           .product_grad = product,
                           .ffn = ffn});

}  // namespace
}  // namespace gatefold::bench
