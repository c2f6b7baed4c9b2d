#pragma once
#include <array>

#include "gatefold/core/small_float.hpp"
#include "gatefold/io/checkpoint.hpp"
#include "gatefold/io/finite.hpp"
#include "gatefold/io/sharded_safetensors.hpp"
#include "gatefold/models/name_map.hpp"

namespace gatefold {

namespace detail {

/// Goes through the parameters of a model as ParamVisitor does, but takes packed weights as one.
template <class Fn>
class WeightVisitor {
 public:
  explicit WeightVisitor(Fn& fn) : fn_(fn) {}

  void operator()(std::string_view name, auto& field) {
    const std::size_t mark = path_.size();
    if (mark) path_ += '.';
    path_ += name;
    visit_field(field);
    path_.resize(mark);
  }

 private:
  template <class Field>
  void visit_field(Field& field) {
    if constexpr (is_tensor<Field> || requires { typename Field::Format; }) {
      fn_(std::string_view(path_), field);
    } else if constexpr (is_sequence<Field>) {
      for (std::size_t i = 0; i < field.size(); ++i) (*this)(std::to_string(i), field[i]);
    } else if constexpr (is_optional<Field>) {
      if (field) visit_field(*field);
    } else {
      Field::visit(*this, field);
    }
  }

  Fn& fn_;
  std::string path_;
};

/// What decides on the shapes in a file beside the parameter's own.
struct ForeignSizes {
  Index patch = 0;                          ///< Arrangement::convolution
  Index num_experts = 0;                    ///< Arrangement::experts and those like it
  Index fp8_rows = 128, fp8_columns = 128;  ///< Of a block of 8-bit floats that share a scale.
};

/// The shape that tensor `of` of a source must have for a parameter of this shape.
inline std::vector<Index> source_shape(std::span<const Index> ours, const NamedSource& source,
                                       const ForeignSizes& sizes, std::size_t of = 0) {
  std::vector<Index> shape(ours.begin(), ours.end());
  if (source.part != Part::whole) shape[0] *= 2;
  switch (source.arrangement) {
    case Arrangement::stacked:
      shape[0] /= static_cast<Index>(source.names.size());
      break;
    case Arrangement::transposed:
      std::swap(shape.at(0), shape.at(1));  // at: g++ 14 and 16 warn of a rank 1 that never comes here
      break;
    case Arrangement::convolution:
      return {shape[0], shape.at(1) / (sizes.patch * sizes.patch), sizes.patch, sizes.patch};
    case Arrangement::scaled_rows:
      if (of > 0) shape.resize(1);
      break;
    case Arrangement::two_tables_at_20:
      break;
    case Arrangement::experts:
      shape.insert(shape.begin(), sizes.num_experts);
      break;
    case Arrangement::experts_transposed:
      return {sizes.num_experts, shape.at(1), shape.at(0)};
    case Arrangement::experts_mxfp4:
      shape = {sizes.num_experts, shape.at(0), (shape.at(1) + kMxfp4Group - 1) / kMxfp4Group};
      if (of == 0) shape.push_back(kMxfp4Group / 2);
      break;
  }
  return shape;
}

/// What one worker decodes in before a parameter is put together. Kept from one parameter to the next: memory that is
/// given back between large tensors of many sizes does not all return to the system.
struct DecodeScratch {
  std::vector<float> dense, other;

  static std::span<float> of(std::vector<float>& memory, std::size_t size) {
    if (memory.size() < size) memory.resize(size);
    return std::span(memory).first(size);
  }
};

/// A tensor of a file, with the scales of its blocks where it holds 8-bit floats.
struct ForeignTensor {
  ShardedSafeTensors::Tensor values;
  std::optional<ShardedSafeTensors::Tensor> scales{};
};

/// The numbers [begin, begin + out.size()) of a tensor; its pages of the file are let go.
inline void decode_range(const ShardedSafeTensors::Tensor& tensor, Index begin, std::span<float> out) {
  const auto& entry = *tensor.entry;
  const std::size_t size = size_bytes(entry.dtype);
  const auto bytes = entry.bytes.subspan(static_cast<std::size_t>(begin) * size, out.size() * size);
  decode(entry.dtype, bytes, out);
  tensor.file->forget(bytes);
}

/// A matrix of E4M3, each block of it times its scale.
inline void decode_fp8(const ForeignTensor& tensor, const ForeignSizes& sizes, std::span<float> out) {
  const auto& shape = tensor.values.entry->shape;
  const Index columns = shape.back(), blocks = tensor.scales->entry->shape.back();
  const auto& of_scales = *tensor.scales->entry;
  std::vector<float> scale(of_scales.bytes.size() / size_bytes(of_scales.dtype));
  decode_range(*tensor.scales, 0, scale);
  std::array<float, 256> value;
  for (std::size_t bits = 0; bits < value.size(); ++bits) value[bits] = e4m3_value(static_cast<std::uint8_t>(bits));
  const auto bytes = tensor.values.entry->bytes;
  for (Index i = 0; i < std::ssize(out); ++i) {
    const Index block = i / columns / sizes.fp8_rows * blocks + i % columns / sizes.fp8_columns;
    const auto at = static_cast<std::size_t>(i);
    out[at] = value[static_cast<std::size_t>(bytes[at])] * scale[static_cast<std::size_t>(block)];
  }
  tensor.values.file->forget(bytes);
}

/// What of a source's outputs is output r of ours, of `outputs`.
inline Index source_row(Part part, Index r, Index outputs) {
  switch (part) {
    case Part::second_half:
      return outputs + r;
    case Part::even:
      return 2 * r;
    case Part::odd:
      return 2 * r + 1;
    default:
      return r;
  }
}

/// Row `row` of blocks and scales as GPT-OSS has them. out // [in]
inline void decode_mxfp4_row(const std::vector<ForeignTensor>& from, Index row, View<float, 1> out) {
  const auto byte_at = [](const ForeignTensor& tensor, Index i) {
    return static_cast<std::uint8_t>(tensor.values.entry->bytes[static_cast<std::size_t>(i)]);
  };
  const Index columns = out.extent(0), blocks = (columns + kMxfp4Group - 1) / kMxfp4Group;
  for (Index block = row * blocks, begin = 0; begin < columns; ++block, begin += kMxfp4Group) {
    const float scale = e8m0_value(byte_at(from[1], block));
    for (Index i = 0; i < std::min(kMxfp4Group, columns - begin); ++i) {
      const std::uint8_t pair = byte_at(from[0], (block * kMxfp4Group + i) / 2);
      out[begin + i] = e2m1_value(i % 2 ? pair >> 4 : pair) * scale;
    }
  }
}

/// The outputs of a parameter, where they are a part of a tensor or of an expert's slice of it. out // [out, in]
inline void assemble_part(const std::vector<ForeignTensor>& from, const NamedSource& way, Rows<float> out,
                          DecodeScratch& scratch) {
  const Index rows = out.extent(0), columns = out.extent(1), all = way.part == Part::whole ? rows : 2 * rows;
  const Index expert = way.arrangement == Arrangement::stacked ? 0 : way.number;
  if (way.arrangement == Arrangement::experts_transposed) {
    const auto slice = DecodeScratch::of(scratch.other, static_cast<std::size_t>(all * columns));
    decode_range(from[0].values, expert * all * columns, slice);
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < columns; ++c)
        out(r, c) = slice[static_cast<std::size_t>(c * all + source_row(way.part, r, rows))];
    return;
  }
  for (Index r = 0; r < rows; ++r) {
    const Index row = expert * all + source_row(way.part, r, rows);
    if (way.arrangement == Arrangement::experts_mxfp4)
      decode_mxfp4_row(from, row, out[r]);
    else
      decode_range(from[0].values, row * columns, {out[r].data(), static_cast<std::size_t>(columns)});
  }
}

/// Decodes a parameter's tensors where they belong. Throws FormatError that names a tensor which holds what is no
/// finite number. out // of the parameter's shape [N, K], or [1, N]
inline void assemble(const std::vector<ForeignTensor>& from, const NamedSource& way, const ForeignSizes& sizes,
                     Rows<float> out, DecodeScratch& scratch) {
  const auto flat = std::span(out.data(), static_cast<std::size_t>(out.size()));
  const Arrangement arrangement = way.arrangement;
  const auto decode_into = [&](const ForeignTensor& tensor, std::span<float> to) {
    if (tensor.scales)
      decode_fp8(tensor, sizes, to);
    else
      decode_range(tensor.values, 0, to);
    expect_finite(to, tensor.values.file->source(), tensor.values.entry->name);
  };
  if (way.part != Part::whole || arrangement >= Arrangement::experts) {
    const bool vector = from[0].values.entry->shape.size() == (arrangement == Arrangement::stacked ? 1u : 2u);
    assemble_part(from, way, vector ? Rows<float>(out.data(), {out.size(), 1}) : out, scratch);
    return expect_finite(flat, from[0].values.file->source(), from[0].values.entry->name);
  }
  const Index rows = out.extent(0), columns = out.extent(1);
  if (arrangement == Arrangement::stacked) {
    const std::size_t each = flat.size() / from.size();
    for (std::size_t i = 0; i < from.size(); ++i) decode_into(from[i], flat.subspan(i * each, each));
    return;
  }
  if (arrangement == Arrangement::scaled_rows) {
    decode_into(from[0], flat);
    const auto scale = DecodeScratch::of(scratch.other, static_cast<std::size_t>(from[1].values.entry->shape[0]));
    decode_into(from[1], scale);
    for (std::size_t i = 0; i < flat.size(); ++i) flat[i] *= scale[i / (flat.size() / scale.size())];
    return;
  }
  const auto other = DecodeScratch::of(scratch.other, flat.size());
  if (arrangement == Arrangement::two_tables_at_20) {
    decode_into(from[0], flat);
    decode_into(from[1], other);
    const auto kept = static_cast<std::size_t>(std::min<Index>(20, rows) * columns);
    std::copy(other.begin() + static_cast<Index>(kept), other.end(), flat.begin() + static_cast<Index>(kept));
    return;
  }
  decode_into(from[0], other);
  const auto value = [&](Index i) { return other[static_cast<std::size_t>(i)]; };
  if (arrangement == Arrangement::transposed) {
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < columns; ++c) out(r, c) = value(c * rows + r);
    return;
  }
  const Index patch = sizes.patch, area = patch * patch, channels = columns / area;
  for (Index r = 0; r < rows; ++r)
    for (Index pixel = 0; pixel < area; ++pixel)
      for (Index c = 0; c < channels; ++c) out(r, pixel * channels + c) = value((r * channels + c) * area + pixel);
}

/// Fills a model from foreign tensors: first all names, shapes and types are checked, then every parameter is made for
/// itself, on all workers, and its pages of the file are let go.
template <class Model>
void read_foreign(const ShardedSafeTensors& file, const NameMap& names, const ForeignSizes& sizes, Model& model,
                  const ParallelFor& parallel_for) {
  struct Task {
    Index size;
    std::function<void(DecodeScratch&)> run;
  };
  std::vector<Task> tasks;
  std::set<std::string, std::less<>> used;
  std::string report;
  std::set<std::string> said;
  const auto fault = [&](const std::string& line) {  // once, though a tensor may be of many parameters
    if (said.insert(line).second) report += "\n  " + line;
  };
  const auto check = [&](const ShardedSafeTensors::Tensor& tensor, const std::vector<Index>& wanted) {
    const auto& entry = *tensor.entry;
    const bool scalar = entry.shape.empty() && wanted == std::vector<Index>{1};
    if (entry.shape != wanted && !scalar)
      fault("misshapen: " + quote_text(entry.name) + " came " + shape_text(entry.shape) + ", wanted " +
            shape_text(wanted));
  };
  const auto check_type = [&](const SafeTensors::Entry& entry, bool right, const char* wanted) {
    if (!right)
      fault("mistyped: " + quote_text(entry.name) + " came as " + std::string(gatefold::name(entry.dtype)) +
            ", wanted " + wanted);
  };
  auto plan = [&](std::string_view path, auto& parameter) {
    using Parameter = std::remove_cvref_t<decltype(parameter)>;
    const auto ways = names.find(path);
    if (ways.empty()) return fault("unknown: no tensor of such a file is our " + quote_text(path));
    const auto complete = [&](const NamedSource& way) {
      return std::ranges::all_of(way.names, [&](const auto& name) { return file.find(name) != nullptr; });
    };
    auto at = std::ranges::find_if(ways, complete);
    const NamedSource& way = at == ways.end() ? ways.back() : *at;
    const auto& shape = parameter.shape();
    std::vector<ForeignTensor> from;
    for (std::size_t of = 0; of < way.names.size(); ++of) {
      const auto& name = way.names[of];
      const auto wanted = source_shape(shape, way, sizes, of);
      used.insert(name);
      const auto* tensor = file.find(name);
      if (!tensor) {
        fault("missing: " + quote_text(name) + " " + shape_text(wanted));
        continue;
      }
      from.push_back({*tensor});
      const auto& entry = *tensor->entry;
      check(*tensor, wanted);
      if (way.arrangement == Arrangement::experts_mxfp4) {
        check_type(entry, entry.dtype == Dtype::u8, "U8");
        continue;
      }
      const auto* scales = entry.dtype == Dtype::f8_e4m3 && wanted.size() == 2 && way.part == Part::whole &&
                                   way.arrangement == Arrangement::stacked
                               ? file.find(name + "_scale_inv")
                               : nullptr;
      if (!scales) {
        check_type(entry, decodes_to<float>(entry.dtype),
                   entry.dtype == Dtype::f8_e4m3 ? "F32, F16, BF16, F64, or F8_E4M3 beside its _scale_inv"
                                                 : "F32, F16, BF16 or F64");
        continue;
      }
      used.insert(name + "_scale_inv");
      from.back().scales = *scales;
      check(*scales, {(wanted[0] + sizes.fp8_rows - 1) / sizes.fp8_rows,
                      (wanted[1] + sizes.fp8_columns - 1) / sizes.fp8_columns});
      check_type(*scales->entry, decodes_to<float>(scales->entry->dtype), "F32, F16, BF16 or F64");
    }
    const Index size = element_count(shape);
    tasks.push_back({size, [from, size, way, sizes, &parameter](DecodeScratch& scratch) {
                       if constexpr (is_tensor<Parameter>) {
                         const Index columns = parameter.shape().back();
                         assemble(from, way, sizes, {parameter.data(), {size / columns, columns}}, scratch);
                       } else {
                         const auto memory = DecodeScratch::of(scratch.dense, static_cast<std::size_t>(size));
                         const Rows<float> dense(memory.data(), parameter.shape());
                         assemble(from, way, sizes, dense, scratch);
                         parameter = Parameter(dense);
                       }
                     }});
  };
  WeightVisitor<decltype(plan)> visitor(plan);
  Model::visit(visitor, model);
  for (const auto& [name, tensor] : file.tensors())
    if (!used.contains(name) && !names.ignores(name))
      fault("unexpected: " + quote_text(name) + " " + shape_text(tensor.entry->shape));
  if (!report.empty())
    throw CheckpointError(file.source() + " does not fit the model:" + report + "\n(of " +
                          std::to_string(file.tensors().size()) +
                          " tensors. Are the configuration and the weights of one model, and all its files there?)");
  std::ranges::stable_sort(tasks, std::greater<>(), &Task::size);
  std::vector<DecodeScratch> scratch(static_cast<std::size_t>(parallel_for.workers()));
  parallel_for(static_cast<Index>(tasks.size()), [&](Index begin, Index end, Index worker) {
    for (Index i = begin; i < end; ++i)
      tasks[static_cast<std::size_t>(i)].run(scratch[static_cast<std::size_t>(worker)]);
  });
}

}  // namespace detail

}  // namespace gatefold
