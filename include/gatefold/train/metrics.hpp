#pragma once
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "gatefold/core/error.hpp"

namespace gatefold {

/// The shortest decimal that reads back as the same double; whole numbers without an exponent. Does not depend on the
/// locale.
inline std::string to_decimal(double x) {
  char text[64];
  const bool whole = std::trunc(x) == x && std::abs(x) < 1e15;
  const auto result = whole ? std::to_chars(text, text + sizeof text, x, std::chars_format::fixed)
                            : std::to_chars(text, text + sizeof text, x);
  return {text, result.ptr};
}

/// A table of numbers on disk, one line per call. A new file starts with the header; one that exists is continued, if
/// its header is the same, so a resumed run writes on. A line is handed over in one write, and half a line that a crash
/// left at the end is cut off on opening. What is no such table is refused and left as it is.
class CsvWriter {
 public:
  /// With `last`, a step say, the rows from the first on whose first value is larger are cut off: a run that goes on
  /// from an earlier step writes them again. Throws OptionError for names that are no plain CSV, FormatError if the
  /// file has another header or, with `last`, a row that is none, std::system_error if it cannot be opened.
  CsvWriter(const std::filesystem::path& path, std::vector<std::string> columns, std::optional<double> last = {})
      : path_(path.string()), num_columns_(columns.size()) {
    expect_option(!columns.empty(), "CsvWriter: " + path_ + " has no columns");
    std::string header;
    for (const auto& name : columns) {
      expect_option(!name.empty() && name.find_first_of(",\"\r\n") == std::string::npos,
                    "CsvWriter: the column \"" + name + "\" is empty or holds a comma, quote or line end");
      header.append(header.empty() ? "" : ",").append(name);
    }
    const bool is_new = !keep_rows(path, header, last);
    file_.reset(std::fopen(path_.c_str(), "ab"));
    if (!file_) throw std::system_error(errno, std::generic_category(), "CsvWriter: " + path_);
    std::setvbuf(file_.get(), nullptr, _IONBF, 0);
    if (is_new) write_line(header);
  }

  /// One value for each column. Throws ShapeError for another number, std::system_error if the line is not written.
  void write(std::span<const double> values) {
    if (values.size() != num_columns_)
      throw ShapeError("CsvWriter::write: " + path_ + " got " + std::to_string(values.size()) + " values, expected " +
                       std::to_string(num_columns_));
    std::string line;
    for (const double x : values) line.append(line.empty() ? "" : ",").append(to_decimal(x));
    write_line(line);
  }
  void write(std::initializer_list<double> values) { write(std::span(values.begin(), values.size())); }

  /// The last row that was kept on opening with `last`; empty if there was none.
  const std::vector<double>& last_row() const { return last_row_; }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  /// Leaves the file with whole lines of rows up to `last`; false if there is none, or no line.
  bool keep_rows(const std::filesystem::path& path, const std::string& header, std::optional<double> last) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return false;
    std::string line;
    std::uintmax_t kept = 0;
    for (Index number = 1; std::getline(file, line); ++number) {
      const bool torn = file.eof();
      if (number == 1 && (torn ? !header.starts_with(line) : line != header))
        throw FormatError("CsvWriter: " + path_ + " has the header \"" + line.substr(0, 200) + "\", expected \"" +
                          header + "\"");
      if (torn) break;
      if (number > 1 && last) {
        auto row = parse_row(line, number);
        if (!(row[0] <= *last)) break;
        last_row_ = std::move(row);
      }
      kept += line.size() + 1;
    }
    file.close();
    if (kept != std::filesystem::file_size(path)) std::filesystem::resize_file(path, kept);
    return kept > 0;
  }

  std::vector<double> parse_row(std::string_view line, Index number) const {
    std::vector<double> row;
    const char *at = line.data(), *const end = at + line.size();
    for (bool more = true; more;) {
      const auto result = std::from_chars(at, end, row.emplace_back());
      more = result.ec == std::errc() && result.ptr != end && *result.ptr == ',' && row.size() < num_columns_;
      at = more ? result.ptr + 1 : result.ptr;
      if (result.ec != std::errc()) row.clear();
    }
    if (at != end || row.size() != num_columns_)
      throw FormatError("CsvWriter: " + path_ + ": line " + std::to_string(number) + " is no row of " +
                        std::to_string(num_columns_) + " numbers; move the file away, or begin a new one");
    return row;
  }

  void write_line(std::string line) {
    line += '\n';
    if (std::fwrite(line.data(), 1, line.size(), file_.get()) != line.size())
      throw std::system_error(errno, std::generic_category(), "CsvWriter: " + path_);
  }

  std::string path_;
  std::size_t num_columns_;
  std::vector<double> last_row_;
  std::unique_ptr<std::FILE, Close> file_;
};

/// The exponential moving average of a noisy metric, free of bias towards its start: the first value is the first
/// average. What is not finite is left out, so one bad step does not erase the curve. A plain value: save it as it is.
struct Ema {
  double decay = 0.98;
  double sum = 0, weight = 0;

  /// Throws OptionError unless the decay is in [0, 1).
  double update(double x) {
    expect_option(0 <= decay && decay < 1, "Ema", "decay", decay, "a number in [0, 1)");
    if (std::isfinite(x)) {
      sum = decay * sum + (1 - decay) * x;
      weight = decay * weight + (1 - decay);
    }
    return value();
  }
  /// NaN before the first value.
  double value() const { return weight > 0 ? sum / weight : std::numeric_limits<double>::quiet_NaN(); }
};

}  // namespace gatefold
