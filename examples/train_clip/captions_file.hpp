#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "gatefold/core/shape.hpp"

namespace train_clip {

using gatefold::Index;

/// A photograph and what is said of it.
struct Captioned {
  std::filesystem::path photo;
  std::vector<std::string> captions;  // one or more
};

struct Captions {
  std::vector<Captioned> photos;    // each once, in the order in which they come first
  std::vector<std::string> faults;  ///< «captions.tsv:7: has no tab»: of what was left out.
};

/// Reads what photographs are called and what is said of them:
///   NAME.tsv or .txt   lines of photograph, tab, caption
///   NAME.csv           a header that names a column image (or filepath, file, photo) and one caption (or title, text)
///   a folder           NAME.txt beside NAME.jpg, .png or .webp, at any depth: every line a caption
/// A photograph may stand in several lines; it lies beside the file, or is named in full. What is of no use is a fault:
/// a line without a tab or of too few columns, one that is not UTF-8, a photograph that is not there, an empty caption,
/// the same caption of the same photograph again. Throws FormatError where nothing is left, where the file as a whole
/// is no such text and, unless `skip_bad`, where there are faults: it names the first ten and says how many.
Captions read_captions(const std::filesystem::path& path, bool skip_bad);

}  // namespace train_clip
