#pragma once
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "gatefold/core/parallel.hpp"

namespace gatefold::test {

/// `workers` threads that take single items in whatever order they come; the first exception is thrown again.
inline ParallelFor threads(Index workers) {
  return ParallelFor({.workers = workers, .run = [workers](Index n, ParallelFor::Body body) {
                        std::atomic<Index> next = 0;
                        std::mutex mutex;
                        std::exception_ptr error;
                        {
                          std::vector<std::jthread> pool;
                          for (Index w = 0; w < workers; ++w)
                            pool.emplace_back([&, w] {
                              try {
                                for (Index i = next++; i < n; i = next++) body(i, i + 1, w);
                              } catch (...) {
                                const std::lock_guard lock(mutex);
                                if (!error) error = std::current_exception();
                              }
                            });
                        }
                        if (error) std::rethrow_exception(error);
                      }});
}

}  // namespace gatefold::test
