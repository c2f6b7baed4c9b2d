#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <concepts>
#include <exception>
#include <functional>
#include <memory>
#include <type_traits>

#include "gatefold/core/error.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace gatefold {

template <class Signature>
class FunctionRef;
/// A borrowed callable: one indirect call, no allocation. Lives no longer than what it refers to.
template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F>
  requires(!std::same_as<std::remove_cvref_t<F>, FunctionRef> && std::is_invocable_r_v<R, F&, Args...>)
      FunctionRef(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_(&call<std::remove_reference_t<F>>) {}
  R operator()(Args... args) const { return call_(object_, args...); }

 private:
  // No lambda: turned into a pointer, it is two functions more for each F.
  template <class F>
  static R call(void* object, Args... args) {
    return (*static_cast<F*>(object))(args...);
  }

  void* object_;
  R (*call_)(void*, Args...);
};

/// Runs `body(begin, end, worker)` over disjoint ranges that cover [0, n). `worker` is in 0..workers()-1 and belongs to
/// one thread at a time, so scratch can be sliced by it. Kernels split work over outputs only, never over a sum, so the
/// result does not depend on how the ranges fall. What a body throws, `run` throws again on the calling thread, when no
/// worker is in a body any more. Any pool fits:
///   ctx.parallel_for = ParallelFor({.workers = n, .run = [&](Index n, ParallelFor::Body body) { pool.run(n, body);
///   }});
class ParallelFor {
 public:
  using Body = FunctionRef<void(Index begin, Index end, Index worker)>;
  struct Options {
    Index workers = 1;
    std::function<void(Index n, Body body)> run;
  };

  ParallelFor() = default;  ///< Serial.
  /// Throws OptionError for less than one worker.
  explicit ParallelFor(Options options) : options_(std::move(options)) {
    expect_size("ParallelFor", "workers", options_.workers);
  }

  Index workers() const { return options_.workers; }

  void operator()(Index n, Body body) const {
    if (n <= 0) return;
    if (n == 1 || options_.workers == 1 || !options_.run)
      body(0, n, 0);
    else
      options_.run(n, body);
  }

 private:
  Options options_;
};

#ifdef _OPENMP
namespace detail {
/// Each thread takes one item at a time: first of its own part of 0..n, where its caches have what it wrote there in
/// the last call, then of what others have left of theirs.
inline void run_openmp(int threads, Index n, ParallelFor::Body body) {
  struct alignas(64) Part {
    std::atomic<Index> next;
    Index end;
  };
  constexpr int kMostParts = 64;  // more threads share them
  std::array<Part, kMostParts> part;
  const int parts = std::min(threads, kMostParts);
  for (int p = 0; p < parts; ++p) {
    part[static_cast<std::size_t>(p)].next = n * p / parts;
    part[static_cast<std::size_t>(p)].end = n * (p + 1) / parts;
  }
  std::exception_ptr error;
#pragma omp parallel num_threads(threads)
  {
    const int self = omp_get_thread_num();
    for (int turn = 0; turn < parts; ++turn) {
      Part& from = part[static_cast<std::size_t>((self + turn) % parts)];
      for (Index i; (i = from.next.fetch_add(1, std::memory_order_relaxed)) < from.end;) {
        try {
          body(i, i + 1, self);
        } catch (...) {
#pragma omp critical
          if (!error) error = std::current_exception();
        }
      }
    }
  }
  if (error) std::rethrow_exception(error);
}
}  // namespace detail

/// OpenMP threads; `threads` = 0 means as many as OpenMP would use. The first exception of a body is thrown again on
/// the calling thread.
inline ParallelFor openmp(int threads = 0) {
  if (threads <= 0) threads = omp_get_max_threads();
  return ParallelFor({.workers = threads,
                      .run = [threads](Index n, ParallelFor::Body body) { detail::run_openmp(threads, n, body); }});
}
#endif

/// OpenMP where the program is compiled with it, else serial. `threads` as for openmp.
inline ParallelFor default_parallel_for([[maybe_unused]] int threads = 0) {
#ifdef _OPENMP
  return openmp(threads);
#else
  return {};
#endif
}

}  // namespace gatefold
