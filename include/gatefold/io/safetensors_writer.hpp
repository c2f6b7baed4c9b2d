#pragma once
#include <array>
#include <functional>

#include "gatefold/io/safetensors.hpp"
#if GATEFOLD_IO_HERE
#include "gatefold/io/atomic_file.hpp"
#endif

namespace gatefold {

/// Collects tensors and writes them as one safetensors file, byte for byte as the reference implementation would
/// (highest dtype rank first, then by name; metadata sorted by key), with a checksum in its metadata. Views are
/// borrowed and read by `write` and `bytes`, converted in small pieces on the way out, so that saving needs no second
/// copy of a model.
class SafeTensorsWriter {
 public:
  /// Stored as `dtype`, rounded to nearest even; by default as T itself. Throws OptionError for a name that is taken,
  /// reserved or not UTF-8 and for a dtype that T cannot be stored as.
  template <class T, std::size_t Rank>
  requires Stored<std::remove_const_t<T>>
  void add(std::string name, View<T, Rank> view, std::optional<Dtype> dtype = std::nullopt) {
    std::array<Index, Rank> stride;
    for (std::size_t axis = 0; axis < Rank; ++axis) stride[axis] = view.stride(axis);
    add_elements<std::remove_const_t<T>>(std::move(name), view.data(), view.shape(), stride, dtype);
  }

  /// Elements that are bytes already (row-major, borrowed). Throws OptionError if they are not shape x dtype.
  void add_bytes(std::string name, Dtype dtype, std::vector<Index> shape, std::span<const std::byte> bytes);

  /// Throws OptionError for a key that is taken and for text that is not UTF-8 or longer than a header may be.
  void add_metadata(std::string key, std::string value);

  /// Replaces the file as a whole or, on any error (std::system_error), leaves the old one as it was.
  void write(const std::filesystem::path& path) const;
  std::vector<std::byte> bytes() const;

 private:
  using Sink = std::function<void(std::span<const std::byte>)>;
  struct Pending {
    Dtype dtype;
    std::vector<Index> shape;
    std::size_t size_bytes;
    std::function<void(const Sink&)> emit;
  };
  /// The same for every rank, so that it is compiled once for each scalar.
  template <Stored T>
  void add_elements(std::string name, const T* data, std::span<const Index> shape, std::span<const Index> stride,
                    std::optional<Dtype> dtype);
  void add_pending(std::string name, Pending tensor);
  /// The digits of the checksum, which are known when all else is written, and their place.
  struct Seal {
    std::size_t offset;
    std::string digits;
    std::span<const std::byte> bytes() const { return std::as_bytes(std::span(digits)); }
  };
  /// The whole file with zeros in that place.
  Seal emit(const Sink& sink) const;

  std::map<std::string, Pending> tensors_;
  std::map<std::string, std::string> metadata_{
      {std::string(kChecksumKey), std::string(kChecksumKind) + std::string(kChecksumDigits, '0')}};
};

namespace detail {

#if GATEFOLD_IO_HERE
/// Text as a JSON string. Throws OptionError unless it is UTF-8.
GATEFOLD_IO_FUNCTION std::string json_string(const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw OptionError(quote_text(text) + " is not UTF-8");
  }
}
#endif

/// fn(span) for each contiguous run of the elements, in row-major order.
template <class T, class Fn>
void for_each_run(const T* data, std::span<const Index> shape, std::span<const Index> stride, const Fn& fn) {
  Index size = 1;
  bool contiguous = true;
  for (std::size_t axis = shape.size(); axis-- > 0; size *= shape[axis])
    contiguous = contiguous && (shape[axis] <= 1 || stride[axis] == size);
  if (size == 0) return;
  if (contiguous) return fn(std::span<const T>(data, static_cast<std::size_t>(size)));
  for (Index i = 0; i < shape[0]; ++i) for_each_run(data + i * stride[0], shape.subspan(1), stride.subspan(1), fn);
}

}  // namespace detail

template <Stored T>
void SafeTensorsWriter::add_elements(std::string name, const T* data, std::span<const Index> shape,
                                     std::span<const Index> stride, std::optional<Dtype> dtype) {
  const Dtype stored = dtype.value_or(dtype_of<T>());
  expect_option(encodes_to<T>(stored), "tensor " + detail::quote_text(name) + " of " +
                                           std::string(gatefold::name(dtype_of<T>())) + " cannot be stored as " +
                                           std::string(gatefold::name(stored)));
  const std::vector<Index> extents(shape.begin(), shape.end()), strides(stride.begin(), stride.end());
  std::size_t size = gatefold::size_bytes(stored);
  for (const Index extent : shape) size *= static_cast<std::size_t>(extent);
  const auto emit = [data, extents, strides, stored](const Sink& sink) {
    constexpr std::size_t kPiece = 8192;  // elements; a buffer that stays in the first cache
    std::vector<std::byte> buffer;
    detail::for_each_run(data, std::span(extents), std::span(strides), [&](std::span<const T> run) {
      if (stored == dtype_of<T>()) return sink(std::as_bytes(run));
      for (; !run.empty(); run = run.subspan(std::min(kPiece, run.size()))) {
        const auto piece = run.first(std::min(kPiece, run.size()));
        buffer.resize(piece.size() * gatefold::size_bytes(stored));
        encode<T>(piece, stored, buffer);
        sink(buffer);
      }
    });
  };
  add_pending(std::move(name), {stored, extents, size, emit});
}

#if GATEFOLD_IO_HERE
GATEFOLD_IO_FUNCTION void SafeTensorsWriter::add_bytes(std::string name, Dtype dtype, std::vector<Index> shape,
                                                       std::span<const std::byte> bytes) {
  expect_option(shape.size() <= kMaxRank && detail::tensor_bytes(dtype, shape) == bytes.size(),
                "tensor " + detail::quote_text(name) + " has " + std::to_string(bytes.size()) + " bytes for " +
                    std::string(gatefold::name(dtype)) + " " + detail::shape_text(shape));
  add_pending(std::move(name), {dtype, std::move(shape), bytes.size(), [bytes](const Sink& sink) { sink(bytes); }});
}

GATEFOLD_IO_FUNCTION void SafeTensorsWriter::add_pending(std::string name, Pending tensor) {
  expect_option(name != "__metadata__" && name.find('\0') == std::string::npos,
                "a tensor cannot be named " + detail::quote_text(name));
  (void)detail::json_string(name);
  expect_option(!tensors_.contains(name), "tensor " + detail::quote_text(name) + " is added twice");
  tensors_.emplace(std::move(name), std::move(tensor));
}

GATEFOLD_IO_FUNCTION void SafeTensorsWriter::add_metadata(std::string key, std::string value) {
  expect_option(
      key.size() <= kMaxHeaderBytes && value.size() <= kMaxHeaderBytes,
      "metadata " + detail::quote_text(key) + " exceeds the " + std::to_string(kMaxHeaderBytes) + " bytes of a header");
  (void)detail::json_string(key), (void)detail::json_string(value);
  expect_option(!metadata_.contains(key), "metadata key " + detail::quote_text(key) + " is added twice");
  metadata_.emplace(std::move(key), std::move(value));
}

GATEFOLD_IO_FUNCTION auto SafeTensorsWriter::emit(const Sink& sink) const -> Seal {
  std::vector<const std::pair<const std::string, Pending>*> order;
  for (const auto& item : tensors_) order.push_back(&item);
  std::ranges::stable_sort(order, std::ranges::greater{}, [](const auto* item) { return item->second.dtype; });

  std::string header = "{\"__metadata__\":{";
  std::size_t begin = 0, seal = 0;
  for (const auto& [key, value] : metadata_) {
    if (header.back() != '{') header += ',';
    header += detail::json_string(key) + ":" + detail::json_string(value);
    if (key == kChecksumKey) seal = sizeof(std::uint64_t) + header.size() - 1 - kChecksumDigits;
  }
  header += "}";
  for (const auto* item : order) {
    const auto& [name, tensor] = *item;
    std::string shape;
    for (const Index extent : tensor.shape) {
      if (!shape.empty()) shape += ',';
      shape += std::to_string(extent);
    }
    header += ',';
    header += detail::json_string(name) + ":{\"dtype\":\"";
    header += gatefold::name(tensor.dtype);
    header += "\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string(begin) + "," +
              std::to_string(begin + tensor.size_bytes) + "]}";
    begin += tensor.size_bytes;
  }
  header += "}";
  header.append((8 - header.size() % 8) % 8, ' ');
  expect_option(header.size() <= kMaxHeaderBytes,
                "the names, shapes and metadata exceed " + std::to_string(kMaxHeaderBytes) + " bytes of header");

  Checksum sum;
  const Sink summed = [&](std::span<const std::byte> bytes) {
    sum.add(bytes);
    sink(bytes);
  };
  const std::uint64_t length = header.size();
  summed(std::as_bytes(std::span(&length, 1)));
  summed(std::as_bytes(std::span(header)));
  for (const auto* item : order) item->second.emit(summed);
  return {seal, to_hex(sum.value())};
}

GATEFOLD_IO_FUNCTION void SafeTensorsWriter::write(const std::filesystem::path& path) const {
  AtomicFile file(path);
  const auto seal = emit([&](std::span<const std::byte> bytes) { file.write(bytes); });
  file.overwrite(seal.offset, seal.bytes());
  file.commit();
}

GATEFOLD_IO_FUNCTION std::vector<std::byte> SafeTensorsWriter::bytes() const {
  std::vector<std::byte> all;
  const auto seal = emit([&](std::span<const std::byte> bytes) { all.insert(all.end(), bytes.begin(), bytes.end()); });
  std::ranges::copy(seal.bytes(), all.begin() + static_cast<std::ptrdiff_t>(seal.offset));
  return all;
}
#endif

}  // namespace gatefold
