#pragma once
#include <algorithm>
#include <memory>

#include "gatefold/module/visit.hpp"

namespace gatefold {

/// Moves all packed weights of a model into one block of memory, on huge pages where the system gives them: a few
/// tokens read every expert from memory, and weights that lie apart, smaller than 2 MiB each or mapped from a file, get
/// small pages, at whose ends prefetching stops. Values stay the same; copies of the model made before keep the old
/// block. pack<F> does it for the experts of a layer; do it yourself after loading a file, where the model is to be
/// used much: it reads the whole file once, and its pages are then no longer shared with other processes. Throws
/// std::logic_error for weights that were never filled.
template <class M>
void gather_weights(M& model) {
  const auto padded = [](const auto& tensor) {
    return (tensor.flat().size_bytes() + kAlignment - 1) / kAlignment * kAlignment;
  };
  std::size_t bytes = 0;
  for_each_param(
      [&](std::string_view, const auto& tensor) {
        if constexpr (is_shared_tensor<std::remove_cvref_t<decltype(tensor)>>) {
          (void)tensor.data();  // throws where there is nothing behind the shape, before anything is moved
          bytes += padded(tensor);
        }
      },
      std::as_const(model));
  const std::shared_ptr<std::byte> block(static_cast<std::byte*>(detail::allocate_aligned(bytes)),
                                         detail::FreeAligned{bytes});
  std::byte* to = block.get();
  for_each_param(
      [&](std::string_view, auto& tensor) {
        using Shared = std::remove_cvref_t<decltype(tensor)>;
        if constexpr (is_shared_tensor<Shared>) {
          const auto values = tensor.flat();
          auto* const copy = reinterpret_cast<std::remove_const_t<typename decltype(values)::element_type>*>(to);
          std::uninitialized_copy(values.begin(), values.end(), copy);
          to += padded(tensor);
          tensor = Shared(tensor.shape(), copy, block);  // the old memory goes, tensor by tensor
        }
      },
      model);
}

}  // namespace gatefold
