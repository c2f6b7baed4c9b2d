#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "gatefold/io/json_file.hpp"
#include "gatefold/train/metrics.hpp"

/// What programs that train have in common: settings, the folder of a run, the loop.
namespace training {

using gatefold::Index;

inline std::string to_text(double value) { return gatefold::to_decimal(value); }
inline std::string to_text(std::integral auto value) { return std::to_string(value); }
inline std::string to_text(const std::string& value) { return "«" + value + "»"; }

/// The values that an option or a setting may have; both ends are among them. A NaN is in no range.
template <class T>
struct Range {
  T least, most;
  bool holds(T value) const { return least <= value && value <= most; }
  std::string ends() const { return to_text(least) + ".." + to_text(most); }
  std::string text() const { return (std::floating_point<T> ? "a number in " : "a whole number in ") + ends(); }
};
template <>
struct Range<bool> {
  bool holds(bool) const { return true; }
  std::string text() const { return "true or false"; }
};
struct OneOf {
  std::vector<std::string> words;
  bool holds(const std::string& value) const { return std::ranges::find(words, value) != words.end(); }
  std::string ends() const {
    std::string all;
    for (const auto& word : words) all += (all.empty() ? "" : "|") + word;
    return all;
  }
  std::string text() const { return "one of " + ends(); }
};

inline constexpr Index kMostSteps = 1'000'000'000'000;
inline constexpr Index kMostWide = 1 << 16;
inline constexpr Range<double> kMinutes{0, 1e6};
using Seed = std::uint64_t;
inline constexpr Range<Seed> kSeeds{0, std::numeric_limits<Seed>::max()};

// Settings are a struct S with, found by its arguments,
//   visit_settings(visit, S&)       visit(name, value, what it may be, what it is) of every setting, once for the
//                                   command line, for writing it down and for taking it up again, where a file is
//                                   trusted no more than a hand
//   contradiction(S, name_of)       what no range says: how settings contradict each other; empty if they do not

template <class S>
std::string json_of_settings(const S& settings) {
  nlohmann::ordered_json json;
  visit_settings([&](const char* name, const auto& value, const auto&, const char*) { json[name] = value; }, settings);
  return json.dump();
}

namespace detail {
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
}  // namespace detail

/// Throws FormatError that names the first setting that is missing, unknown, of another kind, out of its range or at
/// odds with another.
template <class S>
S settings_of_json(const std::string& text, const std::string& file) {
  const auto source = file + ": settings";
  const auto json = gatefold::parse_json_object(text, source);
  S settings;
  std::set<std::string> known;
  visit_settings(
      [&]<class T>(const char* name, T& value, const auto& allowed, const char*) {
        known.insert(name);
        const auto at = json.find(name);
        if (at == json.end()) throw gatefold::FormatError(source + ": «" + name + "» is missing");
        if (!detail::is_a<T>(*at) || !allowed.holds(at->template get<T>()))
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

}  // namespace training
