#include "train_ask/settings.hpp"

namespace train_ask {

std::string to_json(const Settings& settings) { return training::json_of_settings(settings); }

Settings settings_from_json(const std::string& text, const std::string& file) {
  return training::settings_of_json<Settings>(text, file);
}

}  // namespace train_ask
