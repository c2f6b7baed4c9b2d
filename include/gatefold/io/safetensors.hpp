#pragma once
#include <limits>
#include <map>
#include <memory>

#include "gatefold/io/compiled_once.hpp"
#include "gatefold/io/dtype.hpp"
#include "gatefold/io/mapped_file.hpp"
#if GATEFOLD_IO_HERE
#include <nlohmann/json.hpp>

#include "gatefold/io/checksum.hpp"
#endif

namespace gatefold {

// The format (huggingface/safetensors): 8 bytes little-endian length N, N bytes of JSON header
//   {"__metadata__": {"key": "text"}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
// padded with spaces, then the data, which the tensors cover without overlap or gap.

//
// Our writer adds a note «gatefold.checksum» to __metadata__, "xxh3-64:" and 16 digits: the sum of the whole file with
// zeros in the place of these digits. So names, shapes and notes are guarded as the data is.

inline constexpr std::size_t kMaxHeaderBytes = 100'000'000;  ///< The limit of the reference implementation.
inline constexpr std::size_t kMaxRank = 64;                  ///< As in NumPy and PyTorch.
inline constexpr std::string_view kChecksumKey = "gatefold.checksum", kChecksumKind = "xxh3-64:";
inline constexpr std::size_t kChecksumDigits = 16;

/// The tensors of a safetensors file, checked completely before anything is handed out: header length, JSON (no
/// duplicate key, no unknown field, no other nesting than the format's), dtypes, shapes, offsets, and that the tensors
/// tile the data exactly. Costs O(header); the elements are not touched.
class SafeTensors {
 public:
  struct Entry {
    std::string name;
    Dtype dtype;
    std::vector<Index> shape;
    std::span<const std::byte> bytes;  // row-major, of any alignment
  };

  /// Borrows the bytes; `source` names them in messages.
  /// Throws FormatError «SOURCE: tensor 'x': data_offsets: came [8, 4], wanted begin <= end».
  explicit SafeTensors(std::span<const std::byte> bytes, std::string source = "safetensors")
      : source_(std::move(source)) {
    parse(bytes);
  }
  /// Keeps the mapping alive; otherwise as above.
  explicit SafeTensors(MappedFile file)
      : file_(std::make_shared<const MappedFile>(std::move(file))), source_(file_->path().string()) {
    parse(file_->bytes());
  }

  /// Sorted by name.
  const std::vector<Entry>& entries() const { return entries_; }
  /// Without the checksum, which is of this file alone and no note to be copied to another.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// As it stands in the file, which need not be true: see expect_checksum. Nothing in files of other writers.
  const std::optional<std::string>& checksum() const { return checksum_; }
  /// Reads the whole file, if it has a checksum. Throws FormatError when that is another than the file's.
  void expect_checksum() const;

  const std::string& source() const { return source_; }
  /// What keeps the bytes of the entries alive; null if they are borrowed.
  std::shared_ptr<const void> owner() const { return file_; }
  /// See MappedFile::forget; nothing if the bytes are borrowed.
  void forget(std::span<const std::byte> bytes) const {
    if (file_) file_->forget(bytes);
  }

  /// Null for a name that the file does not have. O(log n).
  const Entry* find(std::string_view name) const {
    const auto at =
        std::ranges::lower_bound(entries_, name, {}, [](const Entry& e) { return std::string_view(e.name); });
    return at != entries_.end() && at->name == name ? &*at : nullptr;
  }

 private:
  void parse(std::span<const std::byte> bytes);
  void check_tiling(std::span<const std::byte> data) const;

  std::shared_ptr<const MappedFile> file_;
  std::string source_;
  std::span<const std::byte> bytes_;
  std::vector<Entry> entries_;
  std::map<std::string, std::string> metadata_;
  std::optional<std::string> checksum_;
};

namespace detail {

/// 'text' for a message: what a hostile file says must neither flood nor steer a terminal.
GATEFOLD_IO_FUNCTION std::string quote_text(std::string_view text, std::size_t longest = 120);
/// shape x dtype in bytes; nothing if that, or the product of the extents that are not zero, does not fit an Index
/// (a stride of an empty tensor has to fit as well).
GATEFOLD_IO_FUNCTION std::optional<std::size_t> tensor_bytes(Dtype dtype, std::span<const Index> shape);

#if GATEFOLD_IO_HERE
GATEFOLD_IO_FUNCTION std::string quote_text(std::string_view text, std::size_t longest) {
  std::string out = "'";
  for (const char c : text.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(c);
    constexpr char kDigits[] = "0123456789abcdef";
    if (byte >= 0x20 && byte != 0x7f)
      out += c;
    else
      (out += "\\x") += {kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return out + (text.size() > longest ? "...'" : "'");
}

GATEFOLD_IO_FUNCTION std::optional<std::size_t> tensor_bytes(Dtype dtype, std::span<const Index> shape) {
  std::size_t product = size_bytes(dtype);
  bool empty = false;
  for (const Index extent : shape) {
    if (extent < 0) return std::nullopt;
    empty = empty || extent == 0;
    const auto factor = static_cast<std::size_t>(std::max<Index>(extent, 1));
    if (product > static_cast<std::size_t>(std::numeric_limits<Index>::max()) / factor) return std::nullopt;
    product *= factor;
  }
  return empty ? 0 : product;
}

/// Receives the events of the JSON parser. Whatever stands where the format has no place for it is refused at once,
/// so nesting is bounded by the format and nothing is stored twice.
class HeaderHandler {
 public:
  HeaderHandler(const std::string& source, std::span<const std::byte> data, std::vector<SafeTensors::Entry>& entries,
                std::map<std::string, std::string>& metadata)
      : source_(source), data_(data), entries_(entries), metadata_(metadata) {}

  bool null() { refuse("null"); }
  bool boolean(bool value) { refuse(value ? "true" : "false"); }
  bool number_integer(std::int64_t value) { refuse(value < 0 ? std::to_string(value) : "-0"); }
  bool number_float(double, const std::string& text) { refuse(text.substr(0, 40)); }
  bool binary(std::vector<std::uint8_t>&) { refuse("binary"); }

  bool number_unsigned(std::uint64_t value) {
    if (place_ == Place::shape) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<Index>::max())) refuse(std::to_string(value));
      if (shape_->size() == kMaxRank) refuse("more than " + std::to_string(kMaxRank) + " axes");
      shape_->push_back(static_cast<Index>(value));
    } else if (place_ == Place::offsets) {
      if (offsets_->size() == 2) refuse("a third number");
      offsets_->push_back(value);
    } else {
      refuse(std::to_string(value));
    }
    return true;
  }

  bool string(std::string& text) {
    if (place_ == Place::metadata) {
      metadata_.emplace(field_, std::move(text));
    } else if (place_ == Place::tensor && field_ == "dtype") {
      dtype_ = dtype_from_name(text);
      if (!dtype_) fail("dtype", quote_text(text), "a known dtype such as F32");
    } else {
      refuse(quote_text(text));
    }
    return true;
  }

  bool start_object(std::size_t) {
    if (place_ == Place::start) {
      place_ = Place::names;
    } else if (place_ == Place::names) {
      place_ = name_ == "__metadata__" ? Place::metadata : Place::tensor;
      dtype_.reset(), shape_.reset(), offsets_.reset();
    } else {
      refuse("an object");
    }
    return true;
  }

  bool key(std::string& text) {
    if (place_ == Place::names) {
      if (text.find('\0') != std::string::npos) fail("name", "a NUL in " + quote_text(text), "a name without");
      if (text == "__metadata__" && std::exchange(has_metadata_, true))
        throw FormatError(source_ + ": __metadata__ came twice, wanted once");
      name_ = std::move(text);
    } else {
      field_ = std::move(text);
      if (place_ == Place::metadata) {
        if (metadata_.contains(field_)) fail("key " + quote_text(field_), "twice", "once");
      } else {
        const bool again =
            (field_ == "dtype" && dtype_) || (field_ == "shape" && shape_) || (field_ == "data_offsets" && offsets_);
        if (again) fail(field_, "twice", "once");
        if (field_ != "dtype" && field_ != "shape" && field_ != "data_offsets")
          fail("key", quote_text(field_), "dtype, shape and data_offsets");
      }
    }
    return true;
  }

  bool end_object() {
    if (place_ == Place::tensor) add_tensor();
    place_ = place_ == Place::names ? Place::end : Place::names;
    return true;
  }

  bool start_array(std::size_t) {
    if (place_ == Place::tensor && field_ == "shape") {
      place_ = Place::shape;
      shape_.emplace();
    } else if (place_ == Place::tensor && field_ == "data_offsets") {
      place_ = Place::offsets;
      offsets_.emplace();
    } else {
      refuse("an array");
    }
    return true;
  }

  bool end_array() {
    if (place_ == Place::offsets && offsets_->size() != 2)
      fail("data_offsets", std::to_string(offsets_->size()) + " numbers", "two");
    place_ = Place::tensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error) {
    const std::string_view text = error.what();
    // Behind the parser's own name, and its position where it says one: «[json.exception.parse_error.101] …: …».
    const auto name_end = text.find("] ");
    const auto reason = text.find(": ", name_end == text.npos ? 0 : name_end);
    throw FormatError(source_ + ": header is not JSON at byte " + std::to_string(position) + " of it: " +
                      quote_text(reason != text.npos     ? text.substr(reason + 2)
                                 : name_end != text.npos ? text.substr(name_end + 2)
                                                         : text,
                                 240));
  }

 private:
  enum class Place { start, names, metadata, tensor, shape, offsets, end };

  [[noreturn]] void fail(const std::string& what, const std::string& came, const std::string& wanted) const {
    const std::string owner = place_ == Place::start || place_ == Place::end ? "header: "
                              : place_ == Place::metadata                    ? "__metadata__: "
                                                                             : "tensor " + quote_text(name_) + ": ";
    throw FormatError(source_ + ": " + owner + (what.empty() ? "" : what + ": ") + "came " + came + ", wanted " +
                      wanted);
  }

  [[noreturn]] void refuse(const std::string& came) const {
    switch (place_) {
      case Place::metadata:
        fail("key " + quote_text(field_), came, "a string");
      case Place::shape:
        fail("shape", came, "non-negative integers");
      case Place::offsets:
        fail("data_offsets", came, "two non-negative integers");
      case Place::tensor:
        fail(field_, came, field_ == "dtype" ? "a string" : "an array of non-negative integers");
      default:
        fail("", came, "an object");
    }
  }

  void add_tensor() {
    for (const auto& [field, present] : {std::pair{"dtype", dtype_.has_value()}, std::pair{"shape", shape_.has_value()},
                                         std::pair{"data_offsets", offsets_.has_value()}})
      if (!present) fail(field, "nothing", "it once");
    const auto begin = (*offsets_)[0], end = (*offsets_)[1];
    const std::string range = "[" + std::to_string(begin) + ", " + std::to_string(end) + "]";
    if (begin > end) fail("data_offsets", range, "begin <= end");
    if (end > data_.size())
      fail("data_offsets", range, "at most the " + std::to_string(data_.size()) + " bytes of data");
    const auto size = tensor_bytes(*dtype_, *shape_);
    if (!size) fail("shape", shape_text(*shape_), "a size that can be addressed");
    if (*size != end - begin)
      fail("data_offsets", range + " (" + std::to_string(end - begin) + " bytes)",
           std::to_string(*size) + " bytes for " + std::string(gatefold::name(*dtype_)) + " " + shape_text(*shape_));
    entries_.push_back({name_, *dtype_, std::move(*shape_), data_.subspan(begin, end - begin)});
  }

  const std::string& source_;
  std::span<const std::byte> data_;
  std::vector<SafeTensors::Entry>& entries_;
  std::map<std::string, std::string>& metadata_;
  Place place_ = Place::start;
  bool has_metadata_ = false;
  std::string name_, field_;
  std::optional<Dtype> dtype_;
  std::optional<std::vector<Index>> shape_;
  std::optional<std::vector<std::uint64_t>> offsets_;
};

#endif

}  // namespace detail

#if GATEFOLD_IO_HERE
GATEFOLD_IO_FUNCTION void SafeTensors::parse(std::span<const std::byte> bytes) {
  const auto fail = [&](const std::string& what) { throw FormatError(source_ + ": " + what); };
  bytes_ = bytes;
  std::uint64_t length = 0;
  if (bytes.size() < sizeof(length))
    fail("came " + std::to_string(bytes.size()) + " bytes, wanted at least 8 for the header length");
  std::memcpy(&length, bytes.data(), sizeof(length));
  bytes = bytes.subspan(sizeof(length));
  if (length > kMaxHeaderBytes)
    fail("header length came " + std::to_string(length) + ", wanted at most " + std::to_string(kMaxHeaderBytes));
  if (length > bytes.size())
    fail("header length came " + std::to_string(length) + ", wanted at most the " + std::to_string(bytes.size()) +
         " bytes that follow");
  const auto header = bytes.first(length);
  if (header.empty() || header.front() != std::byte{'{'}) fail("header came without {, wanted a JSON object");
  // The parser takes NUL for the end of its input and would not see what is behind.
  if (const auto nul = std::ranges::find(header, std::byte{0}); nul != header.end())
    fail("header came with a NUL at byte " + std::to_string(nul - header.begin()) + " of it, wanted JSON text");

  const auto data = bytes.subspan(length);
  detail::HeaderHandler handler(source_, data, entries_, metadata_);
  const auto* const text = reinterpret_cast<const char*>(header.data());
  nlohmann::json::sax_parse(text, text + header.size(), &handler);
  std::ranges::sort(entries_, {}, &Entry::name);
  const auto twice = std::ranges::adjacent_find(entries_, {}, &Entry::name);
  if (twice != entries_.end()) fail("tensor " + detail::quote_text(twice->name) + ": came twice, wanted once");
  check_tiling(data);
  if (auto note = metadata_.extract(std::string(kChecksumKey))) checksum_ = std::move(note.mapped());
}

GATEFOLD_IO_FUNCTION void SafeTensors::expect_checksum() const {
  const auto refuse = [&](const std::string& came, const std::string& wanted) {
    throw FormatError(source_ + ": checksum came " + came + ", wanted " + wanted +
                      ": the file is damaged; take it from where it came or from a copy, or make it again (a program "
                      "that rewrites it must leave out the note «" +
                      std::string(kChecksumKey) + "»)");
  };
  const auto is_sum = [](std::string_view text) {
    return text.size() == kChecksumKind.size() + kChecksumDigits && text.starts_with(kChecksumKind) &&
           text.find_first_not_of("0123456789abcdef", kChecksumKind.size()) == text.npos;
  };
  if (!checksum_) {
    // A bit of the key itself may have changed.
    for (const auto& [key, text] : metadata_)
      if (key.size() == kChecksumKey.size() && is_sum(text))
        refuse("under " + detail::quote_text(key), detail::quote_text(kChecksumKey));
    return;
  }
  if (!is_sum(*checksum_)) refuse(detail::quote_text(*checksum_), "xxh3-64: and 16 digits");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes_.data(), sizeof(length));
  const std::string_view head(reinterpret_cast<const char*>(bytes_.data()), sizeof(length) + length);
  const auto note = "\"" + std::string(kChecksumKey) + "\":\"" + *checksum_;  // no text within a string can look so
  const auto at = head.find(note);
  if (at == head.npos) refuse(*checksum_ + " in a header that another program wrote", "it as our writer puts it");
  const auto digits = at + note.size() - kChecksumDigits;

  Checksum sum;
  const std::string zeros(kChecksumDigits, '0');
  sum.add(bytes_.first(digits));
  sum.add(std::as_bytes(std::span(zeros)));
  constexpr std::size_t kPiece = std::size_t{1} << 24;
  for (auto rest = bytes_.subspan(digits + kChecksumDigits); !rest.empty();) {
    const auto piece = rest.first(std::min(kPiece, rest.size()));
    sum.add(piece);
    if (file_) file_->forget(piece);
    rest = rest.subspan(piece.size());
  }
  const auto wanted = std::string(kChecksumKind) + to_hex(sum.value());
  if (*checksum_ != wanted) refuse(*checksum_, wanted + ", which is its bytes'");
}

GATEFOLD_IO_FUNCTION void SafeTensors::check_tiling(std::span<const std::byte> data) const {
  std::vector<const Entry*> order;
  order.reserve(entries_.size());
  for (const Entry& entry : entries_) order.push_back(&entry);
  const auto begin = [&](const Entry* entry) { return static_cast<std::size_t>(entry->bytes.data() - data.data()); };
  std::ranges::sort(order, {}, [&](const Entry* entry) { return std::pair(begin(entry), entry->bytes.size()); });
  std::size_t covered = 0;
  for (const Entry* entry : order) {
    if (begin(entry) != covered)
      throw FormatError(source_ + ": tensor " + detail::quote_text(entry->name) + ": begin came " +
                        std::to_string(begin(entry)) + ", wanted " + std::to_string(covered) +
                        (begin(entry) < covered ? " (it overlaps another tensor)" : " (a gap in the data)"));
    covered += entry->bytes.size();
  }
  if (covered != data.size())
    throw FormatError(source_ + ": came " + std::to_string(data.size()) + " bytes of data, wanted the " +
                      std::to_string(covered) + " that the tensors cover (trailing bytes)");
}
#endif

}  // namespace gatefold
