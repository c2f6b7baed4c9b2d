#pragma once
#include <atomic>
#include <cstdlib>
#include <new>

namespace gatefold::test {

inline std::atomic<long> allocation_count = 0;

/// How often global operator new was called since this object was made.
class AllocGuard {
 public:
  long count() const { return allocation_count.load() - before_; }

 private:
  long before_ = allocation_count.load();
};

}  // namespace gatefold::test

// Weak, so that every test file of a program may include this. new[] comes here by itself; the nothrow form does not
// where a sanitizer brings its own, whose memory must not meet our delete.
[[gnu::weak, gnu::noinline]] void* operator new(std::size_t size) {
  ++gatefold::test::allocation_count;
  if (void* const p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
[[gnu::weak, gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
  ++gatefold::test::allocation_count;
  const auto a = static_cast<std::size_t>(alignment);
  if (void* const p = std::aligned_alloc(a, (size + a - 1) / a * a + (size ? 0 : a))) return p;
  throw std::bad_alloc();
}
[[gnu::weak, gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++gatefold::test::allocation_count;
  return std::malloc(size ? size : 1);
}
[[gnu::weak, gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::weak, gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::weak, gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::weak, gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
