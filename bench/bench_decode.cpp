// A VisionLanguage of 8 blocks of width 1,024 (16 heads, 4 of keys; SwiGLU of 2,816) and 8,192 words that answers: one
// word more for each of its sequences behind 256 cached tokens, and the 256 tokens before them at once, against the
// products of its blocks alone.
// decode/<format>/sequences:<B>/threads:<t>, prefill/<format>/tokens:<R>/threads:<t>
#include "bench/session.hpp"
#include "gatefold/models/vision_language.hpp"

namespace gatefold::bench {
namespace {

struct DecodeCase {
  VisionLanguageOptions options;
  Index sequences, threads;
  Format format;

  Index length() const { return options.context - 1; }
  /// Of the weights that each word meets.
  double weights() const {
    const auto& o = options;
    const Index projected = (o.num_heads + 2 * o.num_key_heads) * (o.width / o.num_heads);
    return static_cast<double>(o.num_layers * o.width * (projected + o.width + 3 * o.hidden));
  }
  double head() const { return static_cast<double>(options.width * options.vocabulary); }
  double cached() const {
    const auto& o = options;
    return 2.0 * static_cast<double>(o.num_layers * sequences * length() * o.num_key_heads * (o.width / o.num_heads));
  }
};

/// A model, prompts as long as its context but for a word, and what remembers them.
template <class F>
struct Talk {
  using Model = decltype(pack<F>(std::declval<const VisionLanguage<float>&>()));
  Model model;
  Tensor<float, 4> images;
  std::vector<Index> ids, offset, one;
  typename Model::template Cache<float> cache;
  Tensor<float, 2> logits;
  Context ctx;

  explicit Talk(const DecodeCase& c)
      : model(pack<F>(filled(VisionLanguage<float>(c.options)))),
        images({c.sequences, c.options.vision.image_size, c.options.vision.image_size, c.options.vision.channels}),
        cache(model.template make_cache<float>(c.sequences)),
        logits({c.sequences, c.options.vocabulary}),
        ctx(with_threads(c.threads)) {
    fill(images.flat(), 1, 3);
    const Index words = c.length() - model.tokens_per_image();
    for (Index b = 0; b <= c.sequences; ++b) offset.push_back(b * words), one.push_back(b);
    for (Index i = 0; i < c.sequences * words; ++i) ids.push_back(i * 7919 % c.options.vocabulary);
  }
  /// As if the prompts, and no more, were remembered.
  void set_length(Index length) {
    gatefold::detail::for_each_cache(cache, [&](auto& part) { std::ranges::fill(part.length, length); });
  }
  void prefill() {
    set_length(0);
    model.prefill({.images = images,
                   .ids = {ids.data(), {std::ssize(ids)}},
                   .text_offset = {offset.data(), {std::ssize(offset)}}},
                  logits, cache, ctx);
  }
  void step(Index length) {
    set_length(length);
    model.step({ids.data(), {std::ssize(one) - 1}}, {one.data(), {std::ssize(one)}}, logits, cache, ctx);
  }
  /// What of a prefill is products of its blocks.
  void multiply(Rows<const float> x, Rows<float> y) {
    for (const auto& block : model.decoder.blocks) {
      const auto scope = ctx.workspace.scope();
      const auto& attention = block.attention.inner;
      auto projected = ctx.workspace.take<float>(x.extent(0), attention.qkv.out());
      (void)attention.qkv.forward(x, projected, ctx);
      (void)attention.out.forward(x, y, ctx);
      (void)block.ffn.inner.forward(x, y, ctx);
    }
  }
};

template <class F>
Contender decode_words(const DecodeCase& c) {
  auto talk = std::make_shared<Talk<F>>(c);
  talk->prefill();
  return {[talk, c] { talk->step(c.length()); }};
}
template <class F>
Contender read_prompt(const DecodeCase& c, bool whole) {
  auto talk = std::make_shared<Talk<F>>(c);
  if (whole) return {[talk] { talk->prefill(); }};
  const Index rows = c.sequences * c.length();
  auto x = std::make_shared<Tensor<float, 2>>(random_rows(rows, c.options.width, 1));
  auto y = std::make_shared<Tensor<float, 2>>(x->shape());
  return {[talk, x, y] { talk->multiply(*x, *y); }};
}

}  // namespace

void add_cases(Session& session) {
  DecodeCase c{.options = {.vision = {.image_size = 32, .patch = 8, .width = 64, .hidden = 64, .num_layers = 1},
                           .vocabulary = 8192,
                           .context = 257,
                           .width = 1024,
                           .hidden = 2816,
                           .num_layers = 8,
                           .num_heads = 16,
                           .num_key_heads = 4},
               .sequences = 1,
               .threads = 1,
               .format = Format::fp32};
  auto& o = c.options;
  if (session.quick()) o.vocabulary = 64, o.context = 33, o.width = 64, o.hidden = 96, o.num_layers = 2;
  for (const Format format : kFormats)
    for (const Index threads : {1, 2}) {
      c.format = format, c.threads = threads;
      for (const Index sequences : {1, 8}) {
        c.sequences = sequences;
        Case row;
        row.name = row_name("decode/" + name(format), {{"sequences", sequences}, {"threads", threads}});
        row.threads = threads;
        row.work = {.bytes = (c.weights() + c.head()) * bytes_per_weight(format) + 4 * c.cached(),
                    .format = format,
                    .memory = Limit::dram,
                    .unit = "word",
                    .units = static_cast<double>(sequences)};
        row.entrants.push_back(
            {"gatefold", [c] { return with_format(c.format, [&]<class F>() { return decode_words<F>(c); }); }});
        session.add(std::move(row));
      }
      c.sequences = 1;
      Case row;
      const double tokens = static_cast<double>(c.length());
      row.name = row_name("prefill/" + name(format), {{"tokens", c.length()}, {"threads", threads}});
      row.threads = threads;
      row.work = {.flops = 2 * tokens * (c.weights() + tokens * static_cast<double>(o.num_layers * o.width)),
                  .format = format,
                  .unit = "token",
                  .units = tokens};
      const auto entrant = [c](bool whole) {
        return [c, whole] { return with_format(c.format, [&]<class F>() { return read_prompt<F>(c, whole); }); };
      };
      row.entrants.push_back({"gatefold", entrant(true)});
      row.entrants.push_back({"products", entrant(false), Entrant::Role::self});
      session.add(std::move(row));
    }
}

}  // namespace gatefold::bench
