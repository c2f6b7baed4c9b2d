#include "train_clip/feed.hpp"

#include <chrono>

namespace train_clip {

Feed::Feed(const Pairs& pairs, const gatefold::ClipTokenizer& tokenizer, Choose choose, const Options& options)
    : pairs_(pairs),
      tokenizer_(tokenizer),
      choose_(std::move(choose)),
      options_(options),
      slots_(static_cast<std::size_t>(options.threads + 2)),
      next_to_make_(options.first_step),
      next_to_take_(options.first_step) {
  for (auto& slot : slots_)
    slot.batch = {Tensor<float, 4>({options.batch, options.image_size, options.image_size, 3}),
                  Tensor<Index, 2>({options.batch, tokenizer.options().context}),
                  Tensor<std::uint8_t, 2>({options.batch, options.batch})};
  for (Index i = 0; i < options.threads; ++i) threads_.emplace_back([this] { work(); });
}

Feed::~Feed() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
}

const FedBatch& Feed::next() {
  const auto begin = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  const Index step = next_to_take_++;  // with which the slot of the step before is free
  changed_.notify_all();
  auto& slot = slot_of(step);
  changed_.wait(lock, [&] { return slot.step == step; });
  waited_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (slot.error) std::rethrow_exception(slot.error);
  return slot.batch;
}

void Feed::work() {
  for (;;) {
    std::unique_lock lock(mutex_);
    // The slot of a step is free when the step after the one that it held was asked for.
    changed_.wait(lock, [&] { return stop_ || next_to_make_ < next_to_take_ + std::ssize(slots_) - 1; });
    if (stop_) return;
    const Index step = next_to_make_++;
    auto& slot = slot_of(step);
    lock.unlock();
    try {
      make(step, slot.batch);
    } catch (...) {
      slot.error = std::current_exception();
    }
    lock.lock();
    slot.step = step;
    changed_.notify_all();
  }
}

void Feed::make(Index step, FedBatch& batch) const {
  const Index size = options_.batch;
  std::vector<Index> which(static_cast<std::size_t>(size));
  choose_(step, which);
  std::vector<std::string> texts;
  std::vector<std::uint64_t> meanings;
  for (Index i = 0; i < size; ++i) {
    const Index picture = which[static_cast<std::size_t>(i)];
    gatefold::Rng rng(options_.seed, static_cast<std::uint64_t>(step) << 20 | static_cast<std::uint64_t>(i));
    const Index caption = rng.below(pairs_.num_captions(picture));
    texts.push_back(pairs_.caption(picture, caption));
    meanings.push_back(pairs_.meaning(picture, caption));
    pairs_.draw(picture, options_.augment ? &rng : nullptr, batch.images.view()[i]);
  }
  tokenizer_.encode(texts, batch.ids.view());
  for (Index i = 0; i < size; ++i)
    for (Index j = 0; j < size; ++j) {
      const auto a = static_cast<std::size_t>(i), b = static_cast<std::size_t>(j);
      batch.same.view()(i, j) = i != j && (meanings[a] == meanings[b] || which[a] == which[b]);
    }
}

}  // namespace train_clip
