#include "zero_shot/file_sums.hpp"

#include <nlohmann/json.hpp>
#include <optional>

#include "gatefold/io/json_file.hpp"
#include "gatefold/io/safetensors.hpp"

namespace zero_shot {

std::uint64_t FileSums::of(const std::filesystem::path& path) {
  auto at = sums_.find(facts_of(path));
  if (at == sums_.end()) {
    const auto file = sum_file(path);
    at = sums_.insert_or_assign(file.facts, file.sum).first;
    ++summed_;
  }
  used_.insert(*at);
  return at->second;
}

std::string FileSums::text() const {
  auto list = nlohmann::json::array();
  for (const auto& [facts, sum] : used_) list.push_back({{"file", facts.numbers()}, {"sum", sum}});
  return list.dump();
}

FileSums FileSums::kept_in(const std::filesystem::path& path) {
  FileSums sums;
  try {
    const gatefold::SafeTensors file{gatefold::MappedFile(path)};
    const auto at = file.metadata().find(kKey);
    if (at == file.metadata().end()) return sums;
    for (const auto& item : gatefold::parse_json(at->second, path.string())) {
      const auto numbers = item.at("file").get<std::array<std::int64_t, FileFacts::kNumbers>>();
      sums.sums_[FileFacts::of_numbers(numbers.data())] = item.at("sum").get<std::uint64_t>();
    }
  } catch (const std::exception&) {  // whoever reads the file for what it is says what is wrong
    sums.sums_.clear();
  }
  return sums;
}

}  // namespace zero_shot
