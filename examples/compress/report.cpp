#include <sys/resource.h>

#include <map>

#include "compress/repair.hpp"

namespace compress {

void print_scores(const std::vector<std::string>& rows, const std::vector<Score>& scores) {
  std::printf("\n| |");
  for (const auto& score : scores) std::printf(" %s |", score.name.c_str());
  std::printf("\n|---|");
  for (std::size_t i = 0; i < scores.size(); ++i) std::printf("---|");
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::printf("\n| %s |", rows[r].c_str());
    for (const auto& score : scores) std::printf(" %.1f |", score.values.at(r));
  }
  std::printf("\n");
}

void print_sparsity(const gatefold::Pruned& pruned) {
  struct Block {
    Index weights = 0, size = 0, kept = 0, unseen = 0, left_out = 0;
  };
  std::map<std::string, Block> blocks;
  Block all;
  for (const auto& weight : pruned.weights)
    for (Block* block : {&blocks[std::string(gatefold::detail::block_of(weight.path))], &all}) {
      ++block->weights, block->size += weight.size, block->kept += weight.kept;
      block->unseen += weight.rows == 0, block->left_out += weight.rows_left_out;
    }
  std::printf("| block | weights | numbers | removed %% | never seen, so by magnitude |\n|---|---|---|---|---|\n");
  const auto print = [](const std::string& name, const Block& b) {
    std::printf("| %s | %td | %td | %.1f | %td |\n", name.c_str(), b.weights, b.size,
                100.0 * static_cast<double>(b.size - b.kept) / static_cast<double>(b.size), b.unseen);
  };
  for (const auto& [name, block] : blocks) print(name, block);
  print("all", all);
  if (all.left_out) std::printf("%td rows of activations were no finite numbers, and were left out.\n", all.left_out);
}

void print_memory() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) == 0) std::printf("peak memory %ld MiB\n", usage.ru_maxrss / 1024);
}

}  // namespace compress
