#include "wardrobe/idx.hpp"

#include <zlib.h>

#include <algorithm>
#include <memory>

#include "gatefold/core/error.hpp"

namespace wardrobe {
namespace {

/// What a file may unpack to: the largest of the kind, EMNIST, has half a gigabyte.
constexpr Index kMostBytes = Index{1} << 32;

class Stream {
 public:
  explicit Stream(const std::filesystem::path& file) : file_(file), stream_(gzopen(file.c_str(), "rb"), gzclose) {
    if (!stream_) refuse("cannot be opened");
  }
  [[noreturn]] void refuse(const std::string& what) const { throw gatefold::FormatError(file_.string() + ": " + what); }

  /// Appends `count` bytes, or as many as there are, a piece at a time: a header may promise what is not there.
  void read(Index count, std::vector<std::uint8_t>& bytes) {
    constexpr Index kPiece = Index{1} << 20;
    for (Index left = count; left > 0;) {
      const auto filled = bytes.size();
      bytes.resize(filled + static_cast<std::size_t>(std::min(left, kPiece)));
      const int came = gzread(stream_.get(), bytes.data() + filled, static_cast<unsigned>(std::min(left, kPiece)));
      bytes.resize(filled + static_cast<std::size_t>(std::max(came, 0)));
      if (came < 0) refuse("is damaged (zlib refuses it)");
      if (came == 0) break;
      left -= came;
    }
    int state = Z_OK;
    gzerror(stream_.get(), &state);
    if (state != Z_OK && state != Z_STREAM_END) refuse("is damaged or cut off (zlib refuses it)");
  }
  /// Some versions of zlib say here only that the file ends too early.
  void close() {
    if (gzclose(stream_.release()) != Z_OK) refuse("is cut off (zlib refuses it)");
  }

 private:
  std::filesystem::path file_;
  std::unique_ptr<gzFile_s, int (*)(gzFile)> stream_;
};

}  // namespace

Idx read_idx(std::filesystem::path file, const std::vector<Index>& extents) {
  if (file.extension() == ".gz" && !std::filesystem::exists(file))
    if (const auto plain = std::filesystem::path(file).replace_extension(); std::filesystem::exists(plain))
      file = plain;
  Stream stream(file);
  // Magic 0x08 = bytes, then the rank, then big-endian extents.
  const Index header = 4 + 4 * static_cast<Index>(extents.size());
  Idx idx;
  stream.read(header, idx.values);
  const auto word = [&](std::size_t i) {
    const auto& b = idx.values;
    return Index{b[i]} << 24 | Index{b[i + 1]} << 16 | Index{b[i + 2]} << 8 | Index{b[i + 3]};
  };
  const bool whole = std::ssize(idx.values) == header;
  if (const Index magic = 0x800 + std::ssize(extents); whole && word(0) != magic)
    stream.refuse("the idx magic number is " + std::to_string(word(0)) + ", expected " + std::to_string(magic));
  Index size = header;
  for (std::size_t axis = 0; axis < extents.size(); ++axis) {
    const Index came = whole ? word(4 + 4 * axis) : extents[axis];
    if (extents[axis] != kAnyExtent && came != extents[axis])
      stream.refuse(std::string(axis == 0 ? "the count" : "the edge of a photo") + " is " + std::to_string(came) +
                    ", expected " + std::to_string(extents[axis]));
    idx.shape.push_back(came);
  }
  Index count = whole ? 1 : 0;
  for (const Index extent : idx.shape) {
    if (extent > 0 && count > kMostBytes / extent) stream.refuse("is larger than any file of its kind");
    count *= extent;
  }
  size += count;
  if (whole) stream.read(count + 1, idx.values);  // one more byte shows a file that is too long
  stream.close();
  if (const Index came = std::ssize(idx.values); came != size || !whole)
    stream.refuse("holds " + (came > size ? "more than " + std::to_string(size) : std::to_string(came)) +
                  " bytes, expected " + std::to_string(size) + (whole ? "" : " or more"));
  idx.values.erase(idx.values.begin(), idx.values.begin() + header);
  return idx;
}

Labelled read_labelled(const std::filesystem::path& folder, const std::string& name, const LabelledSize& wanted) {
  const auto image_file = folder / (name + "-images-idx3-ubyte.gz"),
             label_file = folder / (name + "-labels-idx1-ubyte.gz");
  Labelled data{read_idx(image_file, {wanted.count, wanted.edge, wanted.edge}), {}};
  const auto& shape = data.images.shape;
  const auto refuse = [](const std::filesystem::path& file, const std::string& what) {
    throw gatefold::FormatError(file.string() + ": " + what);
  };
  if (shape[0] < 1 || shape[1] < 1 || shape[1] != shape[2])
    refuse(image_file, "its pictures are " + gatefold::to_string(gatefold::Shape<3>{shape[0], shape[1], shape[2]}) +
                           ", expected one or more that are square");
  data.labels = read_idx(label_file, {shape[0]});
  for (Index i = 0; i < data.size(); ++i)
    if (data.label(i) >= wanted.classes)
      refuse(label_file, "label " + std::to_string(i) + " is " + std::to_string(data.label(i)) + ", expected 0 to " +
                             std::to_string(wanted.classes - 1));
  return data;
}

}  // namespace wardrobe
