#pragma once
#include <numeric>
#include <vector>

#include "gatefold/core/random.hpp"
#include "gatefold/kernels/softmax.hpp"
#include "gatefold/module/decode.hpp"

namespace gatefold {

/// How words are chosen, one after the other.
struct GenerateOptions {
  Index max_tokens = 16;         ///< Of an answer at most.
  std::vector<Index> stop = {};  ///< Words that end an answer, of which they are no part.
  double temperature = 0;        ///< Logits are divided by it and a word is drawn; 0: the most probable one is taken.
  double top_p = 1;              ///< Drawn among the fewest words that have this share together (arXiv 1904.09751).
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;  ///< Sequence b draws from stream + b of the seed, its i-th word the i-th number of it.
};

/// Why an answer ends: a stop word came, it or the sequence is as long as it may be, or the model said NaN.
enum class Ended { not_yet, stop, length, not_finite };

struct Answer {
  std::vector<Index> ids;
  std::vector<double> probability;  ///< Of each word, when it was chosen, at temperature 1.
  Ended ended = Ended::not_yet;
};

/// Index of the word that comes next, -1 where a logit is NaN or none is finite. The most probable one (of equal ones
/// the smaller index) or, with a temperature, one by `uniform` in [0, 1).
template <Real T>
Index choose_word(View<const T, 1> logits, const GenerateOptions& o, double uniform, Context& ctx) {
  const Index count = logits.extent(0);
  Index best = 0;
  for (Index i = 0; i < count; ++i) {
    if (!(logits[i] == logits[i])) return -1;
    if (logits[best] < logits[i]) best = i;
  }
  if (count == 0 || !std::isfinite(to_double(logits[best]))) return -1;
  if (o.temperature == 0) return best;
  const auto scope = ctx.workspace.scope();
  auto share = ctx.workspace.take<T>(count);
  auto order = ctx.workspace.take<Index>(count);
  kernels::softmax_row<T>(ctx.isa, count, T(1 / o.temperature), logits.data(), share.data());
  std::iota(order.data(), order.data() + count, Index{0});
  if (o.top_p < 1)
    std::sort(order.data(), order.data() + count,
              [&](Index a, Index b) { return share[b] < share[a] || (!(share[a] < share[b]) && a < b); });
  double sum = 0;
  Index kept = 0;
  while (kept < count && (sum < o.top_p || kept == 0)) sum += to_double(share[order[kept++]]);
  double left = uniform * sum;
  Index last = order[0];
  for (Index i = 0; i < kept; ++i) {
    const double own = to_double(share[order[i]]);
    if (own <= 0) continue;
    last = order[i];
    if (left < own) break;
    left -= own;
  }
  return last;
}

/// Answers to the prompts of a batch, word by word and all at once: each step runs the last word of every sequence that
/// goes on, by itself, behind what a cache holds of it. The model is a VisionLanguage or another with
///   Batch, make_cache<F>(sequences), prefill(batch, logits, cache, ctx), step(ids, offset, logits, cache, ctx),
///   options.vocabulary, and length(batch, b), the tokens of a sequence, of options.context at most.
/// Over packed weights an answer has the same bits whatever else is in the batch, as forward would give them word for
/// word; over dense float ones products of 16 rows or less are summed in another order than larger ones.
///   Generation talk(model, prompt, {.max_tokens = 8, .stop = {end}}, ctx);
///   while (talk.step(ctx)) ...;                                            // talk.answers() so far
template <class Model, class F = typename Model::Scalar>
class Generation {
 public:
  using T = typename Model::Scalar;

  /// Prefills. The model must outlive it; the prompt need not. Throws OptionError, and what prefill throws.
  Generation(const Model& model, const typename Model::Batch& prompt, const GenerateOptions& o, Context& ctx)
      : model_(&model),
        options_(checked(o, model.options.vocabulary)),
        cache_(model.template make_cache<F>(std::max<Index>(1, prompt.num_sequences()))),
        answers_(static_cast<std::size_t>(prompt.num_sequences())),
        room_(answers_.size()),
        row_(answers_.size()),
        logits_({prompt.num_sequences(), model.options.vocabulary}) {
    if (answers_.empty()) return;
    model.prefill(prompt, logits_, cache_, ctx);
    for (std::size_t b = 0; b < answers_.size(); ++b) {
      const Index left = model.options.context - model.length(prompt, static_cast<Index>(b));
      room_[b] = std::min(options_.max_tokens, left + 1);  // the last word need not be read
      row_[b] = static_cast<Index>(b);
      answers_[b].ids.reserve(static_cast<std::size_t>(room_[b]));
      answers_[b].probability.reserve(static_cast<std::size_t>(room_[b]));
    }
  }

  /// One more word for each answer that has not ended; false once all have.
  bool step(Context& ctx) {
    const auto scope = ctx.workspace.scope();
    const auto sequences = static_cast<Index>(answers_.size());
    auto next = ctx.workspace.take<Index>(sequences), offset = ctx.workspace.take<Index>(sequences + 1);
    Index going = 0;
    offset[0] = 0;
    for (Index b = 0; b < sequences; ++b) {
      if (const Index word = choose(b, ctx); word >= 0) next[going++] = word;
      offset[b + 1] = going;
    }
    if (going == 0) return false;
    model_->step(next.rows(0, going), offset, logits_.view().rows(0, going), cache_, ctx);
    for (Index b = 0; b < sequences; ++b) row_[static_cast<std::size_t>(b)] = offset[b];
    return true;
  }

  const std::vector<Answer>& answers() const { return answers_; }
  const typename Model::template Cache<F>& cache() const { return cache_; }

 private:
  /// The word of sequence b that the model is to read next, -1 for none.
  Index choose(Index b, Context& ctx) {
    auto& answer = answers_[static_cast<std::size_t>(b)];
    if (answer.ended != Ended::not_yet) return -1;
    const auto logits = std::as_const(logits_).view()[row_[static_cast<std::size_t>(b)]];
    const auto count = std::ssize(answer.ids);
    const Rng rng(options_.seed, options_.stream + static_cast<std::uint64_t>(b));
    const Index word = choose_word<T>({logits.data(), {logits.extent(0)}}, options_, rng.uniform_at(count, 0, 1), ctx);
    const auto end = [&](Ended why) {
      answer.ended = why;
      return Index{-1};
    };
    if (word < 0) return end(Ended::not_finite);
    if (std::ranges::find(options_.stop, word) != options_.stop.end()) return end(Ended::stop);
    const auto scope = ctx.workspace.scope();
    auto share = ctx.workspace.template take<T>(logits.extent(0));
    kernels::softmax_row<T>(ctx.isa, logits.extent(0), T(1), logits.data(), share.data());
    answer.ids.push_back(word);
    answer.probability.push_back(to_double(share[word]));
    return std::ssize(answer.ids) < room_[static_cast<std::size_t>(b)] ? word : end(Ended::length);
  }

  static const GenerateOptions& checked(const GenerateOptions& o, Index vocabulary) {
    const std::string_view who = "Generation";
    expect_size(who, "max_tokens", o.max_tokens);
    expect_rate(who, "temperature", o.temperature);
    expect_option(o.top_p > 0 && o.top_p <= 1, who, "top_p", o.top_p, "a number in (0, 1]");
    for (const Index word : o.stop)
      expect_option(word >= 0 && word < vocabulary, who, "stop", word, "a word of the model's vocabulary");
    return o;
  }

  const Model* model_;
  GenerateOptions options_;
  typename Model::template Cache<F> cache_;
  std::vector<Answer> answers_;  // [B]
  std::vector<Index> room_;      // [B] words that an answer may have
  std::vector<Index> row_;       // [B] of logits_
  Tensor<T, 2> logits_;          // [B, V]
};
template <class Model>
Generation(const Model&, const typename Model::Batch&, const GenerateOptions&, Context&)
    -> Generation<Model, typename Model::Scalar>;

/// All of it at once.
template <class Model>
std::vector<Answer> generate(const Model& model, const typename Model::Batch& prompt, const GenerateOptions& o,
                             Context& ctx) {
  Generation talk(model, prompt, o, ctx);
  while (talk.step(ctx)) continue;
  return talk.answers();
}

}  // namespace gatefold
