#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>

/// Charts as SVG, for the programs here and for bench/report.
namespace gatefold::svg {

/// As printf writes it, up to 255 characters.
template <class... T>
std::string text(const char* format, const T&... values) {
  std::array<char, 256> out{};
  std::snprintf(out.data(), out.size(), format, values...);
  return out.data();
}

/// Words as XML shows them.
inline std::string escaped(std::string_view words) {
  std::string out;
  for (const char c : words)
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else
      out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  return out;
}

/// A logarithmic axis from pixel `from` to pixel `to`.
struct LogAxis {
  double least, most, from, to;
  double operator()(double value) const {
    const double at = std::log(std::clamp(value, least, most) / least) / std::log(most / least);
    return from + at * (to - from);
  }
};

/// The same, linear.
struct Axis {
  double least, most, from, to;
  double operator()(double value) const {
    return from + (std::clamp(value, least, most) - least) / (most - least) * (to - from);
  }
};

/// `style` is attributes of SVG.
class Picture {
 public:
  Picture(double width, double height)
      : svg_(text("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" font-family=\"sans-serif\" "
                  "font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
                  width, height)) {}
  void line(double x1, double y1, double x2, double y2, const char* style) {
    svg_ += text("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2, y2, style);
  }
  void words(double x, double y, const std::string& what, const char* style = "") {
    svg_ += text("<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, style) + escaped(what) + "</text>\n";
  }
  void dot(double x, double y, const char* style, const std::string& title, double radius = 4) {
    svg_ += text("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%g\" %s><title>", x, y, radius, style) + escaped(title) +
            "</title></circle>\n";
  }
  void bar(double x, double y, double width, double height, const char* style, const std::string& title) {
    svg_ += text("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" %s><title>", x, y, width, height, style) +
            escaped(title) + "</title></rect>\n";
  }
  std::string finish() const { return svg_ + "</svg>\n"; }

 private:
  std::string svg_;
};

}  // namespace gatefold::svg
