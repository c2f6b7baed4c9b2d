#pragma once
#include "command_line.hpp"
#include "training/settings.hpp"

namespace training {

inline std::string option_name(std::string name) {
  std::ranges::replace(name, '_', '-');
  return "--" + name;
}

/// visit_settings with it: an option for each.
struct AddOptions {
  CLI::App& app;
  bool shows_defaults = true;

  template <class T>
  void operator()(const char* name, T& value, const auto& allowed, const char* help) const {
    if constexpr (std::is_same_v<T, bool>) {
      app.add_flag(option_name(name), value, help);
    } else {
      auto* option = app.add_option(option_name(name), value, help)->type_name(allowed.ends());
      if (shows_defaults) option->capture_default_str();
    }
  }
};

/// visit_settings with it: throws UsageError for a value out of its range.
struct ExpectRanges {
  void operator()(const char* name, const auto& value, const auto& allowed, const char*) const {
    if (!allowed.holds(value))
      throw gatefold::UsageError(option_name(name) + " is " + to_text(value) + ", expected " + allowed.text());
  }
};

/// Throws UsageError for the first of these options that was given beside --resume.
inline void expect_none_with_resume(const CLI::App& app, const std::vector<std::string>& options) {
  for (const auto& name : options)
    if (app.count(name))
      throw gatefold::UsageError(name +
                                 " does not go with --resume, which goes on with the run as it was begun; "
                                 "leave it out, or begin another run with --out FOLDER");
}

}  // namespace training
