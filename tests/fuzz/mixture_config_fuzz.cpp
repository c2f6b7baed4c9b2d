// A configuration of a language model: refused with a FormatError, or read into options that are within bounds.
#include <cstdlib>

#include "gatefold/models/mixture_config.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gatefold;
  const auto expect = [](bool holds) {
    if (!holds) std::abort();
  };
  try {
    const auto json = parse_json_object(std::string(reinterpret_cast<const char*>(data), size), "file");
    const auto config = mixture_config(json, "file");
    const auto& o = config.options;
    for (const Index number : {o.width(), o.num_experts(), o.hidden, config.sizes.fp8_rows, config.sizes.fp8_columns})
      expect(1 <= number && number <= detail::kMaxConfigSize);
    expect((o.shared == SharedExpert::none) == (o.shared_hidden == 0));
    expect(0 <= config.options.input_noise && config.options.input_noise < 1);
    expect(config.sizes.num_experts == o.num_experts());
    std::visit([](const auto& router) { (void)router.checked(); }, o.router);
  } catch (const FormatError&) {
  }
  return 0;
}
