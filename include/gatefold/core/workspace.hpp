#pragma once
#include <cstring>
#include <limits>
#include <memory>
#include <utility>

#include "gatefold/core/growth_watch.hpp"
#include "gatefold/core/tensor.hpp"

namespace gatefold {

/// A stack of scratch memory that layers take from and a scope gives back. It grows in blocks that never move, so a
/// view stays valid until its scope ends; after the first pass of a shape nothing is allocated any more.
///
/// A forward pass leaves on it what backward needs, so whoever runs passes opens a scope for each:
///   const auto scope = ctx.workspace.scope();
/// Without it every pass takes new memory. A debug build says so on standard error.
class Workspace {
 public:
  class [[nodiscard]] Scope {
   public:
    explicit Scope(Workspace& workspace) : workspace_(workspace), mark_(workspace.mark()) {}
    ~Scope() { workspace_.rewind(mark_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Workspace& workspace_;
    std::pair<std::size_t, std::size_t> mark_;
  };

  /// What is taken while the scope lives goes back at its end.
  Scope scope() { return Scope(*this); }

  /// 64-byte aligned and without promised content: debug builds fill it with NaN, so that a forgotten write shows.
  template <class T, std::convertible_to<Index>... N>
  View<T, sizeof...(N)> take(N... extents) {
    static_assert(std::is_trivially_destructible_v<T>, "what a workspace holds is given back without a destructor");
    const Shape<sizeof...(N)> shape{static_cast<Index>(extents)...};
    const auto count = static_cast<std::size_t>(element_count(shape));
    T* data = static_cast<T*>(bytes(count * sizeof(T)));
    if constexpr (!std::is_trivially_default_constructible_v<T>) {
      std::uninitialized_value_construct_n(data, count);
    } else {
#ifndef NDEBUG
      if constexpr (std::numeric_limits<T>::has_quiet_NaN)
        std::fill_n(data, count, std::numeric_limits<T>::quiet_NaN());
#endif
    }
    return {data, shape};
  }

  /// Zeros, for what a kernel adds into.
  template <class T, std::convertible_to<Index>... N>
  View<T, sizeof...(N)> take_zeroed(N... extents) {
    auto view = take<T>(extents...);
    std::fill_n(view.data(), view.size(), T{});
    return view;
  }

  /// How often memory was asked of the system; constant once the shapes repeat.
  std::size_t allocations() const { return blocks_.size(); }
  /// The memory that it holds, taken or not.
  std::size_t size_bytes() const {
    std::size_t all = 0;
    for (const Block& block : blocks_) all += block.size;
    return all;
  }

 private:
  struct Block {
    std::unique_ptr<std::byte[], detail::FreeAligned> memory;
    std::size_t size, used;  // bytes
  };
  // Large enough that a small model needs one block, small enough not to matter in a program that needs none.
  static constexpr std::size_t kMinBlock = std::size_t{1} << 20;

  [[gnu::noinline]] void* bytes(std::size_t n) {
    n = (n + kAlignment - 1) / kAlignment * kAlignment;
    const auto free = [&] { return blocks_[*current_].size - blocks_[*current_].used; };
    while (*current_ < blocks_.size() && free() < n) current_ = *current_ + 1;
    if (*current_ == blocks_.size()) {
      // Doubling: where sizes vary from pass to pass, few large blocks waste less at their ends than many small ones.
      const std::size_t size = std::max({n, kMinBlock, size_bytes()});
      auto* memory = static_cast<std::byte*>(detail::allocate_aligned(size));
      blocks_.push_back({{memory, {size}}, size, 0});
    }
    auto& block = blocks_[*current_];
    void* const at = block.memory.get() + block.used;
#ifndef NDEBUG
    watch(block.used, n);
    std::memset(at, 0xA5, n);  // here and not in take, whose callers g++ 13 and later believe to ask for negative sizes
#endif
    block.used += n;
    return at;
  }
  std::pair<std::size_t, std::size_t> mark() const {
    return {*current_, *current_ < blocks_.size() ? blocks_[*current_].used : 0};
  }
  [[gnu::noinline]] void rewind(std::pair<std::size_t, std::size_t> mark) {
    if (mark.first >= blocks_.size()) mark = {0, 0};  // of memory that was moved away: what is here is younger
    for (std::size_t i = mark.first; i < blocks_.size(); ++i)
      blocks_[i].used = i == mark.first ? std::min(mark.second, blocks_[i].used) : 0;
    current_ = mark.first;
  }

  void watch(std::size_t used, std::size_t n) {
    if (!watch_) watch_ = std::make_unique<detail::GrowthWatch>();
    if (!watch_->takes({*current_, used, n}, [&](std::size_t i) { return blocks_[i].used; })) return;
    watch_->tell(size_bytes());
  }

  std::vector<Block> blocks_;
  detail::EmptiedByMove<std::size_t> current_;
  std::unique_ptr<detail::GrowthWatch> watch_;  // in release builds null, so that their objects and others' may mix
};

}  // namespace gatefold
