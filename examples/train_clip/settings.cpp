#include "train_clip/settings.hpp"

namespace train_clip {

Settings defaults_of(const std::string& stage) {
  Settings s;
  s.stage = stage;
  if (stage == "base") {
    s.captions = "brief", s.fixed_temperature = false;
    s.pairs = 240000, s.steps = 4000, s.warmup = 150, s.lr = 1e-3;
  } else if (stage == "mcl") {
    s.train = "ffn", s.lr = 1e-3;
  } else if (stage == "router") {
    s.train = "router", s.lr = 1e-2;
  }
  return s;
}

}  // namespace train_clip
