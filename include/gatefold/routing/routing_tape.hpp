#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "gatefold/core/context.hpp"
#include "gatefold/core/error.hpp"
#include "gatefold/core/tensor.hpp"

namespace gatefold {

/// The choices of the routers of a model, recorded in one pass and replayed in others, or given from outside: where
/// tokens choose, the router then takes what stands here and makes the weights of its present scores, through which the
/// gradient goes as always (replay between rollout and training; distillation; DeepSeek-V4's layers that choose by the
/// token's id, see expert_table.hpp). Layers are counted in the order in which they run; those whose experts choose are
/// not among them.
///   RoutingTape tape;
///   ctx.tape = &tape;
///   tape.record();  ... a pass
///   tape.replay();  ... another: before each
/// Recording allocates when a shape is new; replaying does not.
class RoutingTape {
 public:
  /// [S, K] each, best first, then -1. On replay a layer of no element chooses by itself.
  std::vector<Tensor<Index, 2>> layers;

  /// For a model of so many sparse layers, all of which choose by themselves until they are given choices; none where
  /// they are to be recorded.
  // A template, so that only a program with a tape compiles what it takes to read and write one.
  template <class Made = void>
  explicit RoutingTape(std::size_t num_layers = 0)
      : layers(num_layers), take_(&RoutingTape::take_next), keep_(&RoutingTape::keep_next) {}

  /// The next pass is recorded, its first layer as the first.
  void record() { recording_ = true, next_ = 0; }
  /// The next pass takes its choices from here.
  void replay() { recording_ = false, next_ = 0; }

  /// Called by a router before it chooses: whether it need not, since `choice` is filled. Throws OptionError for a
  /// layer beyond the last, for an expert that there is not and for one that a token has twice, ShapeError for other
  /// tokens.
  bool take(View<Index, 2> choice, Index num_experts) { return !recording_ && (this->*take_)(choice, num_experts); }
  /// Called by a router when it has chosen.
  void keep(View<const Index, 2> choice) {
    if (recording_) (this->*keep_)(choice);
  }

 private:
  bool take_next(View<Index, 2> choice, Index num_experts) {
    if (next_ >= layers.size())
      throw OptionError("RoutingTape: sparse layer " + std::to_string(next_) + " replays, expected fewer than " +
                        std::to_string(layers.size()) + ", as many as are on it; call replay() before each pass");
    const Tensor<Index, 2>& given = layers[next_++];
    if (given.size() == 0) return false;
    if (given.shape() != choice.shape())
      detail::refuse_shape("RoutingTape: the choices of sparse layer " + std::to_string(next_ - 1), given.shape(),
                           choice.shape());
    for (Index row = 0; row < choice.extent(0); ++row) {
      const Index *const from = given.view()[row].data(), *const end = from + choice.extent(1);
      for (const Index* e = from; e != end; ++e)
        if (*e < -1 || *e >= num_experts || (*e >= 0 && (std::find(from, e, *e) != e || std::find(from, e, -1) != e)))
          refuse(row, *e, num_experts);
      std::copy(from, end, choice[row].data());
    }
    return true;
  }
  void keep_next(View<const Index, 2> choice) {
    if (next_ == layers.size()) layers.emplace_back();
    Tensor<Index, 2>& layer = layers[next_++];
    if (layer.shape() != choice.shape()) layer = Tensor<Index, 2>(choice.shape());
    for (Index row = 0; row < choice.extent(0); ++row)
      std::copy_n(choice[row].data(), choice.extent(1), layer.view()[row].data());
  }

  [[noreturn, gnu::cold]] void refuse(Index row, Index expert, Index num_experts) const {
    throw OptionError("RoutingTape: sparse layer " + std::to_string(next_ - 1) + " gives token " + std::to_string(row) +
                      " the expert " + std::to_string(expert) + ", expected different ones of 0.." +
                      std::to_string(num_experts - 1) + ", then -1");
  }

  bool recording_ = true;
  std::size_t next_ = 0;
  bool (RoutingTape::*take_)(View<Index, 2>, Index);
  void (RoutingTape::*keep_)(View<const Index, 2>);
};

}  // namespace gatefold
