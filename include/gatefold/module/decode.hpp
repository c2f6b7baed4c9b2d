#pragma once
#include <tuple>
#include <variant>
#include <vector>

#include "gatefold/module/module.hpp"

/// Decoding: a sequence that goes on where it stopped, a token or many at a time. What a layer must remember of it is a
/// value beside the model, as its gradient is: a cache. Layers that look at no other row than their own need none, and
/// no code for it either.
///   auto cache = make_cache(model, {.capacity = 4096});         // or make_cache<bf16>: half the bytes
///   decode(model, prompt, y, cache, ctx);                       // [R, D]: as forward gives it
///   decode(model, next, z, cache, ctx);                         // [1, D]: the row that forward would give here
/// Rows of several sequences stand as ctx.layout has them; a sequence may have none.
namespace gatefold {

struct CacheOptions {
  Index capacity;       ///< Tokens of a sequence at most.
  Index sequences = 1;  // B
};

/// A layer that must remember the rows before: it makes a cache and decodes with it,
///   template <class F> auto cache(const CacheOptions&) const;   // numbers kept as F
///   void decode(Rows<const T> x, Rows<T> y, auto& cache, Context& ctx) const;
template <class L>
concept Remembers = requires(const L& layer, const CacheOptions& o) {
  layer.template cache<typename L::Scalar>(o);
};

/// A layer in which rows look at each other, so that it cannot be run on new rows alone, says kMixesRows = true.
template <class L>
concept MixesRows = L::kMixesRows;

/// What `layer` remembers of so many sequences: none yet. Nothing, for a layer that works on each row alone.
template <class F = void, ForwardLayer L>
auto make_cache(const L& layer, const CacheOptions& o) {
  static_assert(Remembers<L> || !MixesRows<L>, "make_cache: rows look at each other in this layer; it cannot decode");
  if constexpr (Remembers<L>)
    return layer.template cache<std::conditional_t<std::is_void_v<F>, typename L::Scalar, F>>(o);
  else
    return Nothing{};
}
template <class F, class L>
using CacheOf = decltype(make_cache<F>(std::declval<const L&>(), CacheOptions{}));

namespace detail {

/// fn(part) for each part of a cache that knows how much room it has.
template <class Cache, class Fn>
void for_each_cache(Cache& cache, Fn&& fn) {
  if constexpr (requires { cache.expect_room(View<const Index, 1>()); })
    fn(cache);
  else if constexpr (requires { std::tuple_size<Cache>::value; })
    std::apply([&](auto&... part) { (for_each_cache(part, fn), ...); }, cache);
  else if constexpr (requires { cache.begin(); })
    for (auto& part : cache) for_each_cache(part, fn);
  else if constexpr (requires { cache.valueless_by_exception(); })
    std::visit([&](auto& part) { for_each_cache(part, fn); }, cache);
}

/// Throws ShapeError for another number of sequences than a cache has, CacheError where one of them has no room for its
/// new tokens. // offset [B+1] of the new tokens
inline void expect_room(std::string_view who, Index capacity, const std::vector<Index>& length,
                        View<const Index, 1> offset) {
  if (offset.extent(0) != std::ssize(length) + 1)
    throw ShapeError(std::string(who) + ": there are rows of " + std::to_string(offset.extent(0) - 1) +
                     " sequences, expected " + std::to_string(length.size()));
  for (Index b = 0; b < std::ssize(length); ++b) {
    const Index taken = length[static_cast<std::size_t>(b)], more = offset[b + 1] - offset[b];
    if (taken + more > capacity)
      throw CacheError(std::string(who) + ": sequence " + std::to_string(b) + " has " + std::to_string(taken) + " of " +
                       std::to_string(capacity) + " tokens, no room for " + std::to_string(more) + " more");
  }
}

/// How many tokens, padding not counted, come before each sequence. // [B+1]
inline View<const Index, 1> token_offset(Index rows, Context& ctx) {
  const Index sequences = ctx.layout ? ctx.layout->num_sequences() : 1;
  auto offset = ctx.workspace.take<Index>(sequences + 1);
  Index n = 0, i = 0;
  offset[0] = 0;
  for (Index b = 0; b < sequences; ++b) {
    // No further than there are rows: what is wrong with a layout, the layers say.
    for (const Index end = ctx.layout ? std::min(ctx.layout->offset[b + 1], ctx.layout->modality.extent(0)) : rows;
         i < end; ++i)
      n += !ctx.layout || ctx.layout->modality[i] != kPadding;
    offset[b + 1] = n;
  }
  return offset;
}

}  // namespace detail

/// decode of a layer within another. // x, y [R, D]
template <ForwardLayer L, class Cache>
void decode_part(const L& layer, Rows<const typename L::Scalar> x, Rows<typename L::Scalar> y, Cache& cache,
                 Context& ctx) {
  const auto scope = ctx.workspace.scope();
  if constexpr (Remembers<L>)
    layer.decode(x, y, cache, ctx);
  else
    (void)layer.forward(x, y, ctx);
}

/// forward for rows that go on from those that `cache` remembers, and are remembered too. Keeps nothing else. Throws
/// CacheError where a sequence has no room for its new tokens; the cache is then as it was. After any other error it is
/// what some layers may have added to. // x, y [R, D]
template <ForwardLayer L, class Cache>
void decode(const L& layer, Rows<const typename L::Scalar> x, Rows<typename L::Scalar> y, Cache& cache, Context& ctx) {
  static_assert(Remembers<L> || !MixesRows<L>, "decode: rows look at each other in this layer; it cannot decode");
  const auto scope = ctx.workspace.scope();
  const auto offset = detail::token_offset(x.extent(0), ctx);
  detail::for_each_cache(cache, [&](const auto& part) { part.expect_room(offset); });
  decode_part(layer, x, y, cache, ctx);
}

}  // namespace gatefold
