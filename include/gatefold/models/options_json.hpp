#pragma once
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "gatefold/io/json_file.hpp"
#include "gatefold/routing/capacity.hpp"

namespace gatefold {

// Options of a model as JSON, for the metadata of its file. A model names its options once, in
//   void visit_options(auto&& v, Options& o) { v("width", o.width); ... }    // o may be const
// and says of each enumeration how many values it has (num_values).

constexpr int num_values(Capacity::Counts) { return 2; }
constexpr int num_values(Capacity::Rounding) { return 3; }

/// A number that is not finite, such as an unlimited capacity factor, is null.
template <class Options>
std::string options_to_json(const Options& options) {
  nlohmann::ordered_json json;
  visit_options(
      [&](const std::string& name, const auto& value) {
        using Value = std::remove_cvref_t<decltype(value)>;
        if constexpr (std::is_enum_v<Value>) {
          json[name] = static_cast<int>(value);
        } else if constexpr (std::is_same_v<Value, double>) {
          if (std::isfinite(value))
            json[name] = value;
          else
            json[name] = nullptr;
        } else if constexpr (std::is_same_v<Value, std::optional<Index>>) {
          if (value)
            json[name] = *value;
          else
            json[name] = nullptr;
        } else {
          json[name] = value;
        }
      },
      options);
  return json.dump();
}

/// Throws FormatError that names the first option that is missing, unknown or of another kind.
template <class Options>
Options options_from_json(const std::string& text, const std::string& source) {
  const auto refuse = [&](const std::string& why) { throw FormatError(source + ": model configuration: " + why); };
  const auto json = parse_json(text, source);
  if (!json.is_object()) refuse("not a JSON object");
  // The library would cut 6.5 down to 6.
  const auto whole = [](const nlohmann::json& number) {
    if (!number.is_number_integer()) throw nlohmann::json::type_error::create(302, "no whole number", &number);
    return number.get<Index>();
  };
  Options options;
  std::size_t known = 0;
  visit_options(
      [&](const std::string& name, auto& value) {
        using Value = std::remove_cvref_t<decltype(value)>;
        const auto at = json.find(name);
        if (at == json.end()) return refuse("«" + name + "» is missing");
        ++known;
        try {
          if constexpr (std::is_enum_v<Value>) {
            const Index number = whole(*at);
            if (number < 0 || number >= num_values(Value{})) refuse("«" + name + "» is " + std::to_string(number));
            value = static_cast<Value>(number);
          } else if constexpr (std::is_same_v<Value, Index>) {
            value = whole(*at);
          } else if constexpr (std::is_same_v<Value, std::uint32_t>) {
            const Index number = whole(*at);
            if (number < 0 || number > Index{std::numeric_limits<std::uint32_t>::max()})
              refuse("«" + name + "» is " + std::to_string(number));
            value = static_cast<std::uint32_t>(number);
          } else if constexpr (std::is_same_v<Value, std::optional<Index>>) {
            value.reset();
            if (!at->is_null()) value = whole(*at);
          } else if constexpr (std::is_same_v<Value, std::vector<Index>>) {
            value.clear();
            for (const auto& number : at->template get<nlohmann::json::array_t>()) value.push_back(whole(number));
          } else if constexpr (std::is_same_v<Value, double>) {
            value = at->is_null() ? std::numeric_limits<double>::infinity() : at->template get<double>();
          } else {
            value = at->template get<Value>();
          }
        } catch (const nlohmann::json::exception&) {
          refuse("«" + name + "» has another type");
        }
      },
      options);
  if (known != json.size()) refuse("it holds options that this version does not know");
  return options;
}

}  // namespace gatefold
