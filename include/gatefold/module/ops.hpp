#pragma once
#include "gatefold/module/module.hpp"

namespace gatefold {

/// All but what is shared and so never written (SharedTensor): a gradient's frozen parts are those of its model.
template <Module M>
void set_zero(M& module) {
  for_each_param(
      [](std::string_view, auto& t) {
        using Field = std::remove_cvref_t<decltype(t)>;
        if constexpr (!is_shared_tensor<Field>) std::ranges::fill(t.flat(), typename Field::Scalar{});
      },
      module);
}

/// A gradient (or an optimiser's moment): the same type and shapes, all zeros but for what it shares with the module.
template <Module M>
M zeros_like(M module) {
  set_zero(module);
  return module;
}

template <Module M>
Index count_params(const M& module) {
  Index n = 0;
  for_each_param([&](std::string_view, const auto& t) { n += t.size(); }, module);
  return n;
}

/// target = source, element by element, for modules of equal structure over other scalars (float, double, dual).
template <Module To, Module From>
void convert(const From& source, To& target) {
  for_each_param(
      [](std::string_view path, auto& to, const auto& from) {
        if (to.shape() != from.shape())
          throw ShapeError("convert: " + std::string(path) + " has shape " + to_string(from.shape()) + ", expected " +
                           to_string(to.shape()));
        using Field = std::remove_cvref_t<decltype(to)>;
        using T = typename Field::Scalar;
        const auto fill = [&](auto& all) {
          std::ranges::transform(from.flat(), all.flat().begin(), [](const auto& x) { return static_cast<T>(x); });
        };
        if constexpr (is_shared_tensor<Field>) {
          Tensor<T, Field::kRank> fresh(to.shape());
          fill(fresh);
          to = Field(std::move(fresh));
        } else {
          fill(to);
        }
      },
      target, source);
}

/// The Euclidean norm over all parameters that are not shared, summed in double in the order of the fields.
template <Module M>
double norm(const M& module) {
  double sum = 0;
  for_each_param(
      [&](std::string_view, const auto& t) {
        if constexpr (!is_shared_tensor<std::remove_cvref_t<decltype(t)>>)
          for (const auto& x : t.flat()) sum += to_double(x) * to_double(x);
      },
      module);
  return std::sqrt(sum);
}

}  // namespace gatefold
