#pragma once
#include <atomic>

#include "gatefold/image/clip_preprocess.hpp"
#include "train_clip/captions_file.hpp"
#include "train_clip/pairs.hpp"

namespace train_clip {

/// Photographs of one's own, read and prepared when they are asked for.
class FilePairs : public Pairs {
 public:
  FilePairs(Captions captions, const gatefold::ClipPreprocess& preprocess, bool skip_bad)
      : captions_(std::move(captions)), preprocess_(preprocess), skip_bad_(skip_bad) {}

  Index size() const override { return std::ssize(captions_.photos); }
  Index num_captions(Index picture) const override { return std::ssize(of(picture).captions); }
  std::string caption(Index picture, Index which) const override {
    return of(picture).captions[static_cast<std::size_t>(which)];
  }
  std::uint64_t meaning(Index picture, Index which) const override;
  /// Augmented: a part of 90 to 100 % of each side, stretched by as little, mirrored every other time, as CLIP was
  /// trained but for the mirror (Radford et al. 2021: a random square crop is the only augmentation). A photograph that
  /// cannot be read throws FormatError, or, with skip_bad, the next one that can takes its place.
  void draw(Index picture, gatefold::Rng* augment, gatefold::View<float, 3> out) const override;
  std::string identity() const override;

  /// How often another photograph took the place of one that cannot be read.
  Index num_unreadable() const { return unreadable_; }

 private:
  const Captioned& of(Index picture) const { return captions_.photos[static_cast<std::size_t>(picture)]; }

  Captions captions_;
  const gatefold::ClipPreprocess& preprocess_;
  bool skip_bad_;
  mutable std::atomic<Index> unreadable_ = 0;
};

/// A random part of a picture, as FilePairs shows it.
gatefold::Image random_part(const gatefold::Image& image, gatefold::Rng& rng);

}  // namespace train_clip
