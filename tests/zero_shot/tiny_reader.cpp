#include "tests/zero_shot/tiny_reader.hpp"

#include "gatefold/nn/init.hpp"

namespace zero_shot::tiny {

gatefold::LimoeFile file(const gatefold::LimoeOptions& o) {
  gatefold::LimoeFile file{gatefold::Limoe<float>(o), wardrobe::model_vocabulary(), {{"title", "tiny"}}};
  gatefold::Rng rng(3);
  gatefold::init::truncated_normal(file.model, rng);
  return file;
}

Reader reader(const gatefold::LimoeOptions& o) {
  auto tiny = file(o);
  tiny.model.set_capacity({});
  auto packed = gatefold::pack_as("fp32", tiny.model);
  return {std::move(tiny), std::move(packed), o.capacity, 0};
}

}  // namespace zero_shot::tiny
