#pragma once
#include <algorithm>
#include <functional>
#include <vector>

#include "gatefold/module/module.hpp"

namespace gatefold {

/// The parameters of a model that a backward pass need not differentiate by: where ctx.frozen says so, layers leave out
/// the sums and products that only their gradient needs, a third of a linear layer's training. Gradients of the other
/// parameters, and dx, keep every bit; those of frozen ones may stay as they are. A hint: a layer that does not look at
/// it computes them all the same, and an optimiser is told what it trains by itself.
///   const auto trained = routers_only();  // adapt/freeze_policy.hpp
///   const Frozen frozen(model, trained);
///   ctx.frozen = &frozen;
/// Known by where they lie, so they are those of this model while it stays there: not of a copy, nor once it has moved.
class Frozen {
 public:
  /// trained(path): is the parameter trained? A Trainable, say.
  template <Module M, std::predicate<std::string_view> Rule>
  Frozen(const M& model, const Rule& trained) {
    for_each_param(
        [&](std::string_view path, const auto& tensor) {
          if (!trained(path)) tensors_.push_back(&tensor);
        },
        model);
    std::ranges::sort(tensors_, std::less<>());
  }

  bool holds(const void* tensor) const {
    return std::binary_search(tensors_.begin(), tensors_.end(), tensor, std::less<>());
  }

 private:
  std::vector<const void*> tensors_;
};

/// Whether backward is to add the gradient by this parameter of a layer. A storage that is made of several tensors is
/// asked for whole.
template <class P>
bool wants_gradient([[maybe_unused]] const P& parameter, [[maybe_unused]] const Context& ctx) {
  if constexpr (is_tensor<P>)
    return !ctx.frozen || !ctx.frozen->holds(&parameter);
  else
    return true;
}

}  // namespace gatefold
