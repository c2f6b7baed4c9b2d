#pragma once
#include <gtest/gtest.h>

#include <regex>
#include <string>

namespace zero_shot::html {

inline std::ptrdiff_t count(const std::string& text, const std::string& piece) {
  std::ptrdiff_t n = 0;
  for (auto at = text.find(piece); at != std::string::npos; at = text.find(piece, at + 1)) ++n;
  return n;
}

/// A page shows the same wherever it is opened, and asks nobody for anything.
inline void expect_to_need_nothing_but_itself(const std::string& html) {
  for (const auto* piece : {"http:", "https:", "@import", "stylesheet"}) EXPECT_EQ(count(html, piece), 0) << piece;
  const std::regex resource(R"re((src|href)="([^"]*)"|url\(([^)]*)\))re");
  for (std::sregex_iterator at(html.begin(), html.end(), resource), end; at != end; ++at) {
    const std::string target = (*at)[2].str() + (*at)[3].str();
    EXPECT_TRUE(target.starts_with("data:image/png;base64,") || target == "#hatch") << target;
  }
}

inline void expect_to_close_what_it_opens(const std::string& html) {
  for (const std::string tag :
       {"div",     "span", "article", "section", "figure", "svg",  "g",      "p",  "b",  "i", "table",
        "details", "dl",   "dt",      "dd",      "header", "main", "button", "h2", "h3", "em", "footer"})
    EXPECT_EQ(count(html, "<" + tag + " ") + count(html, "<" + tag + ">"), count(html, "</" + tag + ">")) << tag;
}

}  // namespace zero_shot::html
