#pragma once
#include <algorithm>
#include <bit>

#include "gatefold/core/view.hpp"
#include "gatefold/simd/simd.hpp"

namespace gatefold::kernels::detail {

#if GATEFOLD_HAS_SIMD
/// As many rows as a vector has lanes, turned so that a vector holds one column: then neither a maximum nor a sum nor a
/// choice needs a step between lanes, and short rows waste none. Rows beyond the matrix repeat its last one.
template <class Arch>
class RowBlock {
 public:
  using V = simd::Batch<float, Arch>;
  static constexpr Index kRows = simd::kLanes<float, Arch>;

  /// Floats of scratch that it borrows: the columns, and a place for rows that vectors would read or write beyond.
  static Index scratch(Index columns) { return 2 * kRows * std::max(columns, kRows) + kRows; }
  RowBlock(float* scratch, Index columns)
      : columns_(columns), column_(scratch), staged_(scratch + kRows * std::max(columns, kRows)) {}

  Index columns() const { return columns_; }
  V operator[](Index e) const { return V::load_aligned(column_ + e * kRows); }
  float at(Index e, Index row) const { return column_[e * kRows + row]; }
  void set(Index e, const V& v) { v.store_aligned(column_ + e * kRows); }

  void load(const Rows<const float>& x, Index begin) {
    const Index rows = std::min(kRows, x.extent(0) - begin), stride = x.stride(0);
    const float* const first = x.data() + begin * stride;
    // Short rows are read with their successors, as long as those are there.
    const bool whole = rows == kRows &&
                       (columns_ >= kRows || (stride == columns_ && (x.extent(0) - begin - kRows) * columns_ >= kRows));
    if (whole) return turn(first, stride);
    for (Index i = 0; i < kRows; ++i)
      std::copy_n(first + std::min(i, rows - 1) * stride, columns_, staged_ + i * columns_);
    turn(staged_, columns_);
  }

  void store(const Rows<float>& y, Index begin) {
    const Index rows = std::min(kRows, y.extent(0) - begin), stride = y.stride(0);
    float* const first = y.data() + begin * stride;
    if (rows == kRows && columns_ >= kRows) {
      for (Index e = 0; e < columns_; e += kRows) {
        const Index at = std::min(e, columns_ - kRows);
        simd::transpose_square<Arch>(column_ + at * kRows, kRows, first + at, stride);
      }
      return;
    }
    const Index pitch = std::max(columns_, kRows);
    for (Index e = 0; e < columns_; e += kRows) {
      const Index at = std::max<Index>(0, std::min(e, columns_ - kRows));
      simd::transpose_square<Arch>(column_ + at * kRows, kRows, staged_ + at, pitch);
    }
    Index i = 0;
    if (columns_ < kRows && stride == columns_)  // what a vector writes beyond its row, the next row overwrites
      for (; i * columns_ + kRows <= rows * columns_; ++i)
        V::load_unaligned(staged_ + i * pitch).store_unaligned(first + i * stride);
    for (; i < rows; ++i) std::copy_n(staged_ + i * pitch, columns_, first + i * stride);
  }

 private:
  void turn(const float* rows, Index stride) {
    for (Index e = 0; e < columns_; e += kRows) {
      const Index at = std::max<Index>(0, std::min(e, columns_ - kRows));
      simd::transpose_square<Arch>(rows + at, stride, column_ + at * kRows, kRows);
    }
  }

  Index columns_;
  float *column_, *staged_;
};

/// The same for rows of 4, 8... numbers that stand one behind the other, fewer than a vector has lanes: all in
/// registers.
template <class Arch, int kColumns>
class PackedBlock {
 public:
  using V = simd::Batch<float, Arch>;
  static constexpr Index kRows = simd::kLanes<float, Arch>;

  static constexpr Index columns() { return kColumns; }
  V operator[](Index e) const { return column_[e]; }
  void set(Index e, const V& v) { column_[e] = v; }
  void load(const Rows<const float>& x, Index begin) {
    for (Index e = 0; e < kColumns; ++e) column_[e] = V::load_unaligned((x.data() + begin * kColumns) + e * kRows);
    simd::zip_rounds(column_, std::countr_zero(static_cast<unsigned>(kRows)));
  }
  void store(const Rows<float>& y, Index begin) {
    simd::zip_rounds(column_, std::countr_zero(static_cast<unsigned>(kColumns)));
    for (Index e = 0; e < kColumns; ++e) column_[e].store_unaligned((y.data() + begin * kColumns) + e * kRows);
  }

 private:
  V column_[kColumns];
};
#endif

}  // namespace gatefold::kernels::detail
