// The settings in a checkpoint of train_limoe, and the configuration in a model: the first byte says which.
#include "gatefold/models/limoe_file.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "train_limoe/settings.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string text(fuzz::text_of(data + 1, size - 1));
  fuzz::refuse_or([&] {
    if (data[0] % 2) {
      const auto options = gatefold::limoe_options_from_json(text, "file");
      const auto again = gatefold::to_json(options);
      fuzz::expect(gatefold::to_json(gatefold::limoe_options_from_json(again, "again")) == again);
      fuzz::expect(gatefold::detail::count_numbers(options) > 0);
    } else {
      const auto settings = train_limoe::settings_from_json(text, "file");
      train_limoe::visit_settings(
          [](const char*, const auto& value, const auto& allowed, const char*) { fuzz::expect(allowed.holds(value)); },
          settings);
      const auto again = train_limoe::to_json(settings);
      fuzz::expect(train_limoe::to_json(train_limoe::settings_from_json(again, "again")) == again);
    }
  });
  return 0;
}
