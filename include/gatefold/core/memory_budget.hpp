#pragma once
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <utility>

#include "gatefold/core/language.hpp"

namespace gatefold {

/// Bytes that threads share, so that many that need little run side by side and those that need much one at a time.
/// First come, first served. Nothing is allocated here; who takes a lease keeps to it.
class MemoryBudget {
 public:
  /// Gives its bytes back when it goes. The budget must outlive it.
  class Lease {
   public:
    Lease() = default;
    ~Lease() {
      if (from_) from_->give_back(bytes_);
    }
    Lease(Lease&& other) noexcept : from_(std::exchange(other.from_, nullptr)), bytes_(other.bytes_) {}
    Lease& operator=(Lease&& other) noexcept {
      std::swap(from_, other.from_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }

   private:
    friend class MemoryBudget;
    Lease(MemoryBudget* from, std::size_t bytes) : from_(from), bytes_(bytes) {}
    MemoryBudget* from_ = nullptr;
    std::size_t bytes_ = 0;
  };

  explicit MemoryBudget(std::size_t bytes) : all_(bytes) {}

  /// Waits until so many bytes are free, or all are: what needs more than there is runs alone. A thread must not take
  /// a second lease while it holds one.
  [[nodiscard]] Lease take(std::size_t bytes) {
    std::unique_lock lock(mutex_);
    const auto turn = next_turn_++;
    changed_.wait(lock, [&] { return turn == turn_ && (used_ == 0 || (bytes <= all_ && used_ <= all_ - bytes)); });
    used_ += bytes;
    ++turn_;
    changed_.notify_all();
    return {this, bytes};
  }

 private:
  void give_back(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    used_ -= bytes;
    changed_.notify_all();
  }

  const std::size_t all_;
  std::size_t used_ = 0, turn_ = 0, next_turn_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
};

}  // namespace gatefold
