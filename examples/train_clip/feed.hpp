#pragma once
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "gatefold/core/tensor.hpp"
#include "gatefold/text/clip_tokenizer.hpp"
#include "train_clip/pairs.hpp"

namespace train_clip {

using gatefold::Tensor;

/// What a step trains on.
struct FedBatch {
  Tensor<float, 4> images;       // [B, S, S, 3]
  Tensor<Index, 2> ids;          // [B, T]
  Tensor<std::uint8_t, 2> same;  // [B, B] non-zero where two pairs are no negatives of one another
};

/// Prepares the batches of the next steps on threads of its own. A batch is a function of the seed and its step, so
/// neither the number of threads nor an interruption changes one.
class Feed {
 public:
  struct Options {
    Index batch, image_size;
    std::uint64_t seed = 0;
    bool augment = false;
    Index threads = 1;
    Index first_step = 0;
  };
  /// choose(step, which [B]) says of what pictures a batch is made; called from any thread.
  using Choose = std::function<void(Index step, std::span<Index> which)>;

  /// All that it is given must outlive it.
  Feed(const Pairs& pairs, const gatefold::ClipTokenizer& tokenizer, Choose choose, const Options& options);
  ~Feed();
  Feed(const Feed&) = delete;
  Feed& operator=(const Feed&) = delete;

  /// The batch of the next step, to be used until the next call. Throws what went wrong in its making.
  const FedBatch& next();

  double seconds_waited() const { return waited_; }

 private:
  struct Slot {
    FedBatch batch;
    Index step = -1;  // that it holds
    std::exception_ptr error;
  };

  void work();
  void make(Index step, FedBatch& batch) const;
  Slot& slot_of(Index step) { return slots_[static_cast<std::size_t>(step % std::ssize(slots_))]; }

  const Pairs& pairs_;
  const gatefold::ClipTokenizer& tokenizer_;
  Choose choose_;
  Options options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Slot> slots_;  // one for each thread, one that is in use, one to go on with
  Index next_to_make_, next_to_take_;
  bool stop_ = false;
  double waited_ = 0;
  std::vector<std::jthread> threads_;
};

}  // namespace train_clip
