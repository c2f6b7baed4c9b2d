#pragma once
#include "gatefold/models/limoe_file.hpp"
#include "packed_limoe/packed_limoe.hpp"
#include "zero_shot/reading.hpp"

namespace zero_shot {

/// The model that reads, checked and made ready for use.
struct Reader {
  gatefold::LimoeFile file;
  std::unique_ptr<gatefold::PackedLimoe> model;  ///< The same, packed.
  gatefold::Capacity trained;                    ///< The seats of training; the model itself turns nobody away.
  double deviation = 0;                          ///< Of the file's probe.
};

/// Loads a model and replays its probe. Throws FormatError that says what to do if anything is not as it was written.
/// `format` names one of packed_formats().
Reader open_model(const std::filesystem::path& path, gatefold::Context& ctx, const std::string& format = "fp32");

/// A label as the model and the wardrobe world see it.
Label make_label(const std::string& text, const Reader& reader);

/// Fills in what the model makes of pictures and labels. Each pass runs twice: with a seat for everybody, which is what
/// counts, and with the seats of training, to see who would have been turned away.
void read(Reading& reading, Reader& reader, gatefold::Context& ctx);

}  // namespace zero_shot
