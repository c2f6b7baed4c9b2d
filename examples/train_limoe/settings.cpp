#include "train_limoe/settings.hpp"

#include "gatefold/io/json_file.hpp"

namespace train_limoe {

std::string to_json(const Settings& settings) {
  nlohmann::ordered_json json;
  visit_settings([&](const char* name, const auto& value, const auto&, const char*) { json[name] = value; }, settings);
  return json.dump();
}

namespace {

/// Whether the JSON is a T as it stands: the library would cut 1.5 down to 1, and take true for 1.
template <class T>
bool is_a(const nlohmann::json& json) {
  if constexpr (std::is_same_v<T, bool>) {
    return json.is_boolean();
  } else if constexpr (std::is_same_v<T, std::string>) {
    return json.is_string();
  } else if constexpr (std::is_same_v<T, double>) {
    return json.is_number();
  } else if constexpr (std::is_same_v<T, std::uint64_t>) {
    return json.is_number_unsigned();
  } else {
    static_assert(std::is_same_v<T, Index>);
    constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<Index>::max());
    return json.is_number_integer() && !(json.is_number_unsigned() && json.get<std::uint64_t>() > kMost);
  }
}

}  // namespace

Settings settings_from_json(const std::string& text, const std::string& file) {
  const auto source = file + ": settings";
  const auto json = gatefold::parse_json_object(text, source);
  Settings settings;
  std::set<std::string> known;
  visit_settings(
      [&]<class T>(const char* name, T& value, const auto& allowed, const char*) {
        known.insert(name);
        const auto at = json.find(name);
        if (at == json.end()) throw gatefold::FormatError(source + ": «" + name + "» is missing");
        if (!is_a<T>(*at) || !allowed.holds(at->template get<T>()))
          gatefold::refuse_field(source, name, *at, allowed.text());
        value = at->template get<T>();
      },
      settings);
  for (const auto& [name, value] : json.items())
    if (!known.contains(name)) gatefold::refuse_field(source, name, value, "no setting of this name");
  if (const auto why = contradiction(settings, [](const std::string& name) { return "«" + name + "»"; }); !why.empty())
    throw gatefold::FormatError(source + ": " + why);
  return settings;
}

}  // namespace train_limoe
