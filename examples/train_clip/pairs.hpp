#pragma once
#include <cstdint>
#include <string>

#include "gatefold/core/random.hpp"
#include "gatefold/core/view.hpp"

namespace train_clip {

using gatefold::Index;

/// Pictures with what is said of them. Any member may be called from any thread.
class Pairs {
 public:
  virtual ~Pairs() = default;
  virtual Index size() const = 0;  ///< Pictures.
  virtual Index num_captions(Index picture) const = 0;
  virtual std::string caption(Index picture, Index which) const = 0;
  /// Pairs whose captions have the same meaning are no negatives of one another.
  virtual std::uint64_t meaning(Index picture, Index which) const = 0;
  /// As the model takes it; with `augment` one of the ways in which it may be seen. // out [S, S, 3]
  virtual void draw(Index picture, gatefold::Rng* augment, gatefold::View<float, 3> out) const = 0;
  /// What tells this collection from others, for what is kept of it in files.
  virtual std::string identity() const = 0;
};

}  // namespace train_clip
