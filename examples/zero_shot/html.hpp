#pragma once
#include <string>
#include <string_view>

namespace zero_shot {

/// Text from outside as HTML shows it, in element content and in quoted attributes alike. Marks that turn the direction
/// of what follows (U+202A to U+202E, U+2066 to U+2069) are taken out of it.
inline std::string escape_html(std::string_view text) {
  constexpr std::size_t kMark = 3;  // bytes
  const auto turns = [](std::string_view mark) {
    return ("\u202a" <= mark && mark <= "\u202e") || ("\u2066" <= mark && mark <= "\u2069");
  };
  std::string html;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char letter = text[at];
    if (text.size() - at >= kMark && turns(text.substr(at, kMark))) {
      html += "\xef\xbf\xbd";
      at += kMark - 1;
      continue;
    }
    switch (letter) {
      case '&':
        html += "&amp;";
        break;
      case '<':
        html += "&lt;";
        break;
      case '>':
        html += "&gt;";
        break;
      case '"':
        html += "&quot;";
        break;
      case '\'':
        html += "&#39;";
        break;
      default:
        // Control characters are not allowed in HTML, not even as references.
        if (static_cast<unsigned char>(letter) < 0x20 && letter != '\n' && letter != '\t')
          html += "\xef\xbf\xbd";
        else
          html += letter;
    }
  }
  return html;
}

}  // namespace zero_shot
