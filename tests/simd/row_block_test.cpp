#include "gatefold/simd/row_block.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace gatefold::kernels::detail {
namespace {

#if GATEFOLD_HAS_SIMD
using Block = RowBlock<simd::DefaultArch>;
constexpr Index kRows = Block::kRows;

float number(Index row, Index column) { return static_cast<float>(1000 * row + column); }

/// Loads and stores rows of a matrix with `gap` numbers behind each, and looks at every number.
void check(Index total_rows, Index begin, Index columns, Index gap) {
  const Index stride = columns + gap;
  const auto size = static_cast<std::size_t>(total_rows * stride);
  std::vector<float> x(size, -1), y(size + 64, -2);
  for (Index i = 0; i < total_rows; ++i)
    for (Index e = 0; e < columns; ++e) x[static_cast<std::size_t>(i * stride + e)] = number(i, e);
  const auto part = [&](std::vector<float>& of) {
    return Rows<float>(of.data(), {total_rows, stride}).columns(0, columns);
  };
  const Rows<float> from = part(x), to = part(y);
  std::vector<float> memory(static_cast<std::size_t>(Block::scratch(columns)) + 16);
  auto* const scratch = reinterpret_cast<float*>((reinterpret_cast<std::uintptr_t>(memory.data()) + 63) / 64 * 64);
  Block block(scratch, columns);
  block.load(from, begin);
  const Index rows = std::min(kRows, total_rows - begin);
  for (Index e = 0; e < columns; ++e) {
    float column[kRows];
    block[e].store_unaligned(column);
    for (Index i = 0; i < kRows; ++i) {
      ASSERT_EQ(column[i], number(begin + std::min(i, rows - 1), e)) << e;  // the last row stands for those beyond
      ASSERT_EQ(block.at(e, i), column[i]);
    }
    block.set(e, block[e] + Block::V(0.5f));
  }
  block.store(to, begin);
  for (std::size_t k = 0; k < y.size(); ++k) {
    const auto row = static_cast<Index>(k) / stride, column = static_cast<Index>(k) % stride;
    const bool written = row >= begin && row < begin + rows && column < columns;
    ASSERT_EQ(y[k], written ? number(row, column) + 0.5f : -2) << row << " " << column;
  }
}

TEST(RowBlock, HoldsColumnsAndGivesRowsBack) {
  for (Index columns = 1; columns <= 3 * kRows + 1; ++columns)
    for (const Index gap : {0, 3}) {
      check(3 * kRows, kRows, columns, gap);          // with rows behind it
      check(kRows, 0, columns, gap);                  // the whole matrix
      check(kRows + kRows / 2, kRows, columns, gap);  // fewer rows than lanes
      check(kRows + 1, kRows, columns, gap);          // one
    }
}

template <int kColumns>
void check_packed() {
  std::vector<float> x(static_cast<std::size_t>(3 * kRows * kColumns)), y(x.size(), -2);
  for (std::size_t k = 0; k < x.size(); ++k) x[k] = static_cast<float>(k);
  PackedBlock<simd::DefaultArch, kColumns> block;
  block.load(Rows<const float>(x.data(), {3 * kRows, kColumns}), kRows);
  for (Index e = 0; e < kColumns; ++e) {
    float column[kRows];
    block[e].store_unaligned(column);
    for (Index i = 0; i < kRows; ++i) ASSERT_EQ(column[i], static_cast<float>((kRows + i) * kColumns + e));
  }
  block.store(Rows<float>(y.data(), {3 * kRows, kColumns}), kRows);
  for (std::size_t k = 0; k < y.size(); ++k) {
    const auto row = static_cast<Index>(k) / kColumns;
    ASSERT_EQ(y[k], row >= kRows && row < 2 * kRows ? x[k] : -2);
  }
}

TEST(RowBlock, PackedRowsStayInRegisters) {
  if constexpr (kRows >= 4) check_packed<4>();
  if constexpr (kRows >= 8) check_packed<8>();
}
#endif

}  // namespace
}  // namespace gatefold::kernels::detail
