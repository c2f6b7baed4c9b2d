#pragma once
#include <memory>
#include <string>
#include <vector>

#include "gatefold/models/limoe.hpp"

namespace gatefold {

/// A LIMoE for inference in a format that is chosen at run time. To the compiler each format is another model, so each
/// has a unit of its own beside this header, compiled once for all programs.
class PackedLimoe {
 public:
  PackedLimoe(const PackedLimoe&) = delete;
  PackedLimoe& operator=(const PackedLimoe&) = delete;
  virtual ~PackedLimoe() = default;

  virtual void set_capacity(const Capacity& capacity) = 0;
  /// Limoe::forward.
  virtual void forward(const Limoe<float>::Batch& batch, Rows<float> z_image, Rows<float> z_text,
                       Context& ctx) const = 0;

  LimoeOptions options;

 protected:
  explicit PackedLimoe(LimoeOptions o) : options(std::move(o)) {}
};

/// The model packed as F, of which the unit named as the format has the definition (format.hpp).
template <PackedFormat F>
std::unique_ptr<PackedLimoe> pack_limoe(const Limoe<float>& model);

/// The formats by name, for --format.
std::vector<std::string> packed_formats();

/// Throws std::out_of_range for a name that is none.
std::unique_ptr<PackedLimoe> pack_as(const std::string& format, const Limoe<float>& model);

}  // namespace gatefold
