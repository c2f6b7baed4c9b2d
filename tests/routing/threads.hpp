#pragma once
#include <atomic>
#include <thread>
#include <vector>

#include "gatefold/core/parallel.hpp"

namespace gatefold {

/// `workers` threads that take single items in whatever order they come.
inline ParallelFor threads(Index workers) {
  return ParallelFor({.workers = workers, .run = [workers](Index n, ParallelFor::Body body) {
                        std::atomic<Index> next = 0;
                        std::vector<std::jthread> pool;
                        for (Index w = 0; w < workers; ++w)
                          pool.emplace_back([&, w] {
                            for (Index i = next++; i < n; i = next++) body(i, i + 1, w);
                          });
                      }});
}

}  // namespace gatefold
