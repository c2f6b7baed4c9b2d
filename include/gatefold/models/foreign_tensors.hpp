#pragma once
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

/// The shape that tensor `of` of a source must have for a parameter of this shape.
inline std::vector<Index> source_shape(std::span<const Index> ours, const NamedSource& source, Index patch,
                                       std::size_t of = 0) {
  std::vector<Index> shape(ours.begin(), ours.end());
  switch (source.arrangement) {
    case Arrangement::stacked:
      shape[0] /= static_cast<Index>(source.names.size());
      break;
    case Arrangement::transposed:
      std::swap(shape.at(0), shape.at(1));  // at: g++ 14 and 16 warn of a rank 1 that never comes here
      break;
    case Arrangement::convolution:
      return {shape[0], shape.at(1) / (patch * patch), patch, patch};
    case Arrangement::scaled_rows:
      if (of > 0) shape.resize(1);
      break;
    case Arrangement::two_tables_at_20:
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

/// Decodes a parameter's tensors where they belong. Throws FormatError that names a tensor which holds what is no
/// finite number. out // of the parameter's shape [N, K], or [1, N]
inline void assemble(const std::vector<ShardedSafeTensors::Tensor>& from, Arrangement arrangement, Index patch,
                     Rows<float> out, DecodeScratch& scratch) {
  const auto flat = std::span(out.data(), static_cast<std::size_t>(out.size()));
  const auto decode_into = [](const ShardedSafeTensors::Tensor& tensor, std::span<float> to) {
    decode(tensor.entry->dtype, tensor.entry->bytes, to);
    tensor.file->forget(*tensor.entry);
    expect_finite(to, tensor.file->source(), tensor.entry->name);
  };
  const Index rows = out.extent(0), columns = out.extent(1);
  if (arrangement == Arrangement::stacked) {
    const std::size_t each = flat.size() / from.size();
    for (std::size_t i = 0; i < from.size(); ++i) decode_into(from[i], flat.subspan(i * each, each));
    return;
  }
  if (arrangement == Arrangement::scaled_rows) {
    decode_into(from[0], flat);
    const auto scale = DecodeScratch::of(scratch.other, static_cast<std::size_t>(from[1].entry->shape[0]));
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
  const Index area = patch * patch, channels = columns / area;
  for (Index r = 0; r < rows; ++r)
    for (Index pixel = 0; pixel < area; ++pixel)
      for (Index c = 0; c < channels; ++c) out(r, pixel * channels + c) = value((r * channels + c) * area + pixel);
}

/// Fills a model from foreign tensors: first all names, shapes and types are checked, then every parameter is made for
/// itself, on all workers, and its pages of the file are let go.
template <class Model>
void read_foreign(const ShardedSafeTensors& file, const NameMap& names, Index patch, Model& model,
                  const ParallelFor& parallel_for) {
  struct Task {
    Index size;
    std::function<void(DecodeScratch&)> run;
  };
  std::vector<Task> tasks;
  std::set<std::string, std::less<>> used;
  std::string report;
  auto plan = [&](std::string_view path, auto& parameter) {
    using Parameter = std::remove_cvref_t<decltype(parameter)>;
    const auto ways = names.find(path);
    if (ways.empty()) {
      report += "\n  unknown: no tensor of such a file is our " + quote_text(path);
      return;
    }
    const auto complete = [&](const NamedSource& way) {
      return std::ranges::all_of(way.names, [&](const auto& name) { return file.find(name) != nullptr; });
    };
    auto at = std::ranges::find_if(ways, complete);
    const NamedSource& way = at == ways.end() ? ways.back() : *at;
    const auto& shape = parameter.shape();
    std::vector<ShardedSafeTensors::Tensor> from;
    for (std::size_t of = 0; of < way.names.size(); ++of) {
      const auto& name = way.names[of];
      const auto wanted = source_shape(shape, way, patch, of);
      used.insert(name);
      const auto* tensor = file.find(name);
      if (!tensor) {
        report += "\n  missing: " + quote_text(name) + " " + shape_text(wanted);
        continue;
      }
      from.push_back(*tensor);
      const auto& entry = *tensor->entry;
      const bool scalar = entry.shape.empty() && wanted == std::vector<Index>{1};
      if (entry.shape != wanted && !scalar)
        report += "\n  misshapen: " + quote_text(name) + " came " + shape_text(entry.shape) + ", wanted " +
                  shape_text(wanted);
      if (!decodes_to<float>(entry.dtype))
        report += "\n  mistyped: " + quote_text(name) + " came as " + std::string(gatefold::name(entry.dtype)) +
                  ", wanted F32, F16, BF16 or F64";
    }
    const Index size = element_count(shape);
    tasks.push_back({size, [from, size, arrangement = way.arrangement, patch, &parameter](DecodeScratch& scratch) {
                       if constexpr (is_tensor<Parameter>) {
                         const Index columns = parameter.shape().back();
                         assemble(from, arrangement, patch, {parameter.data(), {size / columns, columns}}, scratch);
                       } else {
                         const auto memory = DecodeScratch::of(scratch.dense, static_cast<std::size_t>(size));
                         const Rows<float> dense(memory.data(), parameter.shape());
                         assemble(from, arrangement, patch, dense, scratch);
                         parameter = Parameter(dense);
                       }
                     }});
  };
  WeightVisitor<decltype(plan)> visitor(plan);
  Model::visit(visitor, model);
  for (const auto& [name, tensor] : file.tensors())
    if (!used.contains(name) && !names.ignores(name))
      report += "\n  unexpected: " + quote_text(name) + " " + shape_text(tensor.entry->shape);
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
