#pragma once
#include <charconv>
#include <set>

#include "gatefold/io/safetensors_writer.hpp"
#include "gatefold/module/module.hpp"

namespace gatefold {

/// A checkpoint that does not fit what it is read into; the message lists every trouble, one a line.
struct CheckpointError : FormatError {
  using FormatError::FormatError;
};

namespace detail {
inline std::string tensor_name(std::string_view prefix, std::string_view path) {
  return prefix.empty() ? std::string(path) : std::string(prefix) + "." + std::string(path);
}

/// Of the metadata, not of text that only looks alike: true is no number to restore.
template <class T>
concept MetadataInteger = std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char>;
}  // namespace detail

/// Several modules, free tensors and metadata in one safetensors file, so that a run can be resumed from one file:
///   CheckpointWriter file;
///   file.add("model", model);
///   file.add("optimizer.mean", mean);                       // any module, also an optimiser's moments
///   file.add_tensor("probe.output.logits", logits);
///   file.add_metadata("step", step);
///   file.write("run.safetensors");
/// What is added is borrowed and read by `write`, without a second copy in memory.
class CheckpointWriter {
 public:
  /// Every parameter as the tensor PREFIX.PATH (just PATH under an empty prefix). Float parameters are stored as
  /// `dtype` (F64, F32 or BF16, rounded to nearest even), by default as their own type; integers and buffers always as
  /// themselves. Throws OptionError for a name that is taken and for a dtype that floats cannot be stored as.
  template <Module M>
  void add(std::string_view prefix, const M& module, std::optional<Dtype> dtype = std::nullopt) {
    for_each_param(
        [&](std::string_view path, const auto& tensor) {
          using Field = std::remove_cvref_t<decltype(tensor)>;
          constexpr bool kRounded = StoredFloat<typename Field::Scalar> && !is_buffer<Field>;
          file_.add(detail::tensor_name(prefix, path), tensor.view(), kRounded ? dtype : std::nullopt);
        },
        module);
  }
  template <Module M>
  void add(std::string_view prefix, const M&& module, std::optional<Dtype> dtype = std::nullopt) = delete;

  /// A tensor that belongs to no module, say a probe: an input and the output that a loaded model must reproduce.
  template <class T, std::size_t Rank>
  void add_tensor(std::string name, View<T, Rank> view) {
    file_.add(std::move(name), view);
  }
  template <class T, std::size_t Rank>
  void add_tensor(std::string name, const Tensor<T, Rank>& tensor) {
    file_.add(std::move(name), tensor.view());
  }
  template <class T, std::size_t Rank>
  void add_tensor(std::string name, const Tensor<T, Rank>&& tensor) = delete;

  /// Throws OptionError for a key that is taken or a text that is not UTF-8.
  void add_metadata(std::string key, std::string value) { file_.add_metadata(std::move(key), std::move(value)); }
  /// All 64 bits survive (a step, the state of a generator).
  void add_metadata(std::string key, detail::MetadataInteger auto value) {
    file_.add_metadata(std::move(key), std::to_string(value));
  }

  /// Replaces the file as a whole or, on any error, leaves the old one as it was.
  void write(const std::filesystem::path& path) const { file_.write(path); }
  std::vector<std::byte> bytes() const { return file_.bytes(); }

 private:
  SafeTensorsWriter file_;
};

/// The other direction: hands out modules, free tensors and metadata by name.
class CheckpointReader {
 public:
  /// Throws std::system_error if the file cannot be read, FormatError if it is not sound (see SafeTensors) or not what
  /// its checksum says, for which it is read once.
  explicit CheckpointReader(const std::filesystem::path& path) : CheckpointReader(SafeTensors(MappedFile(path))) {}
  explicit CheckpointReader(SafeTensors file) : file_(std::move(file)) { file_.expect_checksum(); }

  /// Fills every parameter from the tensor PREFIX.PATH, converting F64, F32, F16 and BF16 to the parameter's type.
  /// Packed weights are not even copied: they stay in the mapped file, which lives as long as they do. Throws
  /// CheckpointError that lists all missing, unexpected, misshapen and broken ones, and then leaves the module as it
  /// was. Unexpected is what begins with "PREFIX." and is no parameter (under an empty prefix: any other tensor).
  template <Module M>
  void read(std::string_view prefix, M& module) const {
    std::string report;
    std::set<std::string, std::less<>> wanted;
    for_each_param(
        [&](std::string_view path, const auto& tensor) {
          using Field = std::remove_cvref_t<decltype(tensor)>;
          using T = typename Field::Scalar;
          const auto [name, fresh] = wanted.insert(detail::tensor_name(prefix, path));
          const auto* entry = file_.find(*name);
          if (!entry)
            report += "\n  missing: " + detail::quote_text(*name) + " " + to_string(tensor.shape());
          else if (const auto text = mismatch<T>(*entry, tensor.shape()); !text.empty())
            report += text;
          else if constexpr (requires { tensor.fault(entry->bytes); }) {  // content that must obey a law
            if (const std::string fault = tensor.fault(entry->bytes); !fault.empty())
              report += "\n  broken: " + detail::quote_text(*name) + ": " + fault;
          }
        },
        module);
    for (const auto& name : names(prefix))
      if (!wanted.contains(name)) report += "\n  unexpected: " + detail::quote_text(name) + " " + shape_of(name);
    if (!report.empty())
      throw CheckpointError(file_.source() + " does not fit the module" +
                            (prefix.empty() ? "" : " " + detail::quote_text(prefix)) + ":" + report);

    for_each_param(
        [&](std::string_view path, auto& tensor) {
          const auto* entry = file_.find(detail::tensor_name(prefix, path));
          if constexpr (is_shared_tensor<std::remove_cvref_t<decltype(tensor)>>)
            share(*entry, tensor);
          else
            decode(entry->dtype, entry->bytes, tensor.flat());
        },
        module);
  }

  /// A free tensor, converted as above. Throws CheckpointError if it is missing or has another rank or dtype.
  template <Stored T, std::size_t Rank>
  Tensor<T, Rank> read_tensor(std::string_view name) const {
    const auto* entry = file_.find(name);
    if (!entry) throw CheckpointError(file_.source() + ": tensor " + detail::quote_text(name) + " is missing");
    Shape<Rank> shape{};
    if (entry->shape.size() == Rank) std::ranges::copy(entry->shape, shape.begin());
    if (entry->shape.size() != Rank || !decodes_to<T>(entry->dtype))
      throw CheckpointError(file_.source() + ": tensor " + detail::quote_text(name) + " came as " +
                            std::string(gatefold::name(entry->dtype)) + " " + detail::shape_text(entry->shape) +
                            ", wanted " + std::to_string(Rank) + " axes of " +
                            std::string(gatefold::name(dtype_of<T>())));
    Tensor<T, Rank> tensor(shape);
    decode(entry->dtype, entry->bytes, tensor.flat());
    return tensor;
  }

  /// The names that begin with "PREFIX." (all under an empty prefix), sorted.
  std::vector<std::string> names(std::string_view prefix) const {
    std::vector<std::string> found;
    for (const auto& entry : file_.entries())
      if (entry.name.starts_with(detail::tensor_name(prefix, ""))) found.push_back(entry.name);
    return found;
  }
  bool has_metadata(const std::string& key) const { return file_.metadata().contains(key); }

  /// Throws CheckpointError if the file has no such key.
  const std::string& metadata(const std::string& key) const {
    const auto at = file_.metadata().find(key);
    if (at == file_.metadata().end())
      throw CheckpointError(file_.source() + ": metadata has no key " + detail::quote_text(key));
    return at->second;
  }
  /// Throws CheckpointError unless the text is a whole number that fits T.
  template <detail::MetadataInteger T>
  T metadata_integer(const std::string& key) const {
    const std::string& text = metadata(key);
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size())
      throw CheckpointError(file_.source() + ": metadata " + detail::quote_text(key) + " came as " +
                            detail::quote_text(text) + ", wanted a whole number that fits " +
                            std::string(gatefold::name(dtype_of<T>())));
    return value;
  }

  const SafeTensors& file() const { return file_; }

 private:
  /// In the file where its elements can be used as they are, else a copy.
  template <class T, std::size_t Rank>
  void share(const SafeTensors::Entry& entry, SharedTensor<T, Rank>& tensor) const {
    const bool aligned = reinterpret_cast<std::uintptr_t>(entry.bytes.data()) % alignof(T) == 0;
    if (aligned && entry.dtype == dtype_of<T>() && file_.owner()) {
      tensor = SharedTensor<T, Rank>(tensor.shape(), reinterpret_cast<const T*>(entry.bytes.data()), file_.owner());
      return;
    }
    Tensor<T, Rank> copy(tensor.shape());
    decode(entry.dtype, entry.bytes, copy.flat());
    tensor = SharedTensor<T, Rank>(std::move(copy));
  }

  std::string shape_of(std::string_view name) const { return detail::shape_text(file_.find(name)->shape); }

  template <Stored T, std::size_t Rank>
  static std::string mismatch(const SafeTensors::Entry& entry, const Shape<Rank>& shape) {
    std::string text;
    if (!std::ranges::equal(entry.shape, shape))
      text += "\n  misshapen: " + detail::quote_text(entry.name) + " came " + detail::shape_text(entry.shape) +
              ", wanted " + to_string<Rank>(shape);
    if (!decodes_to<T>(entry.dtype))
      text += "\n  mistyped: " + detail::quote_text(entry.name) + " came as " +
              std::string(gatefold::name(entry.dtype)) + ", wanted " + std::string(gatefold::name(dtype_of<T>()));
    return text;
  }

  SafeTensors file_;
};

struct SaveOptions {
  std::optional<Dtype> dtype = std::nullopt;         ///< For float parameters; nothing: their own type.
  std::string prefix = "";                           ///< "model" names the tensors "model.PATH".
  std::map<std::string, std::string> metadata = {};  ///< Text about the model: configuration, licence, data.
};

/// One module as one file. Throws as CheckpointWriter does; an old file survives every error.
template <Module M>
void save(const M& module, const std::filesystem::path& path, const SaveOptions& options = {}) {
  CheckpointWriter file;
  file.add(options.prefix, module, options.dtype);
  for (const auto& [key, value] : options.metadata) file.add_metadata(key, value);
  file.write(path);
}

/// Fills a module of the right shapes. Throws as CheckpointReader does; the module survives every error.
template <Module M>
void load(const CheckpointReader& file, M& module, std::string_view prefix = "") {
  file.read(prefix, module);
}
template <Module M>
void load(const std::filesystem::path& path, M& module, std::string_view prefix = "") {
  load(CheckpointReader(path), module, prefix);
}

}  // namespace gatefold
