#pragma once
#include <cstdlib>

#include "bench/session.hpp"
#include "gatefold/models/clip_file.hpp"

/// What the benchmarks of a CLIP read and leave for bench/peers/clip_peers.py.
namespace gatefold::bench {

namespace fs = std::filesystem;

inline fs::path folder_of(const char* variable) {
  const char* const folder = std::getenv(variable);
  return folder ? folder : "";
}
inline fs::path checkpoint() { return folder_of("GATEFOLD_CLIP_DIR"); }

/// The first of the inputs of the folder, or random ones.
template <class T, std::size_t Rank, class Make>
Tensor<T, Rank> inputs(const char* name, const Shape<Rank>& shape, Make&& make) {
  const auto file = checkpoint() / "inputs.safetensors";
  if (checkpoint().empty() || !fs::exists(file)) return make();
  const auto all = CheckpointReader(file).read_tensor<T, Rank>(name);
  Tensor<T, Rank> some(shape);
  Shape<Rank> enough = all.shape();
  enough[0] = std::min(enough[0], shape[0]);
  expect_shape(View<const T, Rank>(some), enough, "inputs.safetensors");
  std::copy_n(all.data(), some.size(), some.data());
  return some;
}

inline Tensor<float, 4> pixels(const ClipOptions& o, Index count) {
  const Shape<4> shape{count, o.image_size, o.image_size, o.channels};
  return inputs<float, 4>("pixels", shape, [&] {
    Tensor<float, 4> random(shape);
    fill(random.flat(), 2, 1);
    return random;
  });
}

inline Tensor<Index, 2> ids(const ClipOptions& o, Index count) {
  const Shape<2> shape{count, o.context};
  return inputs<Index, 2>("ids", shape, [&] {
    Tensor<Index, 2> random(shape);
    Rng rng(3);
    const Index end = o.end_of_text.value_or(o.vocabulary - 1);
    for (Index i = 0; i < random.size(); ++i) random.data()[i] = (i + 1) % o.context ? rng.below(end) : end;
    return random;
  });
}

/// Writes the tensor of two axes that make() returns where GATEFOLD_CLIP_EMBEDDINGS says.
template <class Make>
void leave_result(std::string name, Make&& make) {
  const auto folder = folder_of("GATEFOLD_CLIP_EMBEDDINGS");
  if (folder.empty()) return;
  std::ranges::replace(name, '/', '_');
  SafeTensorsWriter file;
  const Tensor<float, 2> z = make();
  file.add("z", z.view());
  file.write(folder / (name + ".safetensors"));
}

}  // namespace gatefold::bench
