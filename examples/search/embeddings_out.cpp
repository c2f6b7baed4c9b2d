#include "search/embeddings_out.hpp"

#include "gatefold/io/safetensors_writer.hpp"

namespace search {

void write_npy(const Embeddings& e, const std::filesystem::path& path) {
  const Index columns = std::max(e.z_images.extent(1), e.z_labels.extent(1));
  nlohmann::ordered_json names;
  for (const auto& [key, value] : e.facts) names[key] = value;
  names["images"] = e.images;
  names["labels"] = e.labels;
  const auto text = names.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  const auto header = detail::npy_header(e.z_images.extent(0) + e.z_labels.extent(0), columns);
  gatefold::AtomicFile beside(npy_names(path)), file(path);
  beside.write(std::as_bytes(std::span(text)));
  file.write(std::as_bytes(std::span(header)));
  file.write(std::as_bytes(e.z_images.flat()));
  file.write(std::as_bytes(e.z_labels.flat()));
  file.commit();
  beside.commit();
}

void write_safetensors(const Embeddings& e, const std::filesystem::path& path) {
  gatefold::SafeTensorsWriter writer;
  writer.add("images", e.z_images.view());
  writer.add("labels", e.z_labels.view());
  writer.add_metadata("images", detail::as_json(e.images));
  writer.add_metadata("labels", detail::as_json(e.labels));
  for (const auto& [key, value] : e.facts) writer.add_metadata(key, value);
  writer.write(path);
}

}  // namespace search
