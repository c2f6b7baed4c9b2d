#pragma once
#include <string>
#include <string_view>

namespace zero_shot {

/// Text from outside as HTML shows it, in element content and in quoted attributes alike.
inline std::string escape_html(std::string_view text) {
  std::string html;
  for (const char letter : text) {
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
