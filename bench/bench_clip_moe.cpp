// What training a CLIP costs, and making a CLIP-MoE of it; fp32.
//   clip_step/<what moves>/...  of the tiny CLIP of train_clip: forward, loss, backward, AdamW
//   clip_router/...             the same of a CLIP-MoE of which the routers alone move; beside it all of it
//   clip_moe_nets/...           its mixture, top-2 of 4, inference; beside it two dense nets of that size
//   clip_recompute/...          forward and backward of ViT-B/32's shape, blocks computed again; beside it kept
//   kmeans/...                  embeddings into 9 clusters; beside it by mini-batches
// --large adds 64 pairs of ViT-B/32 and a million embeddings. GATEFOLD_CLIP_DIR and GATEFOLD_CLIP_EMBEDDINGS as in
// bench_clip.cpp, but what clip_step leaves are gradients: those of the positions, images' before texts'.
#include "bench/clip_inputs.hpp"
#include "gatefold/adapt/freeze_policy.hpp"
#include "gatefold/adapt/kmeans.hpp"
#include "gatefold/losses/contrastive.hpp"
#include "gatefold/models/clip_init.hpp"
#include "gatefold/models/upcycle.hpp"
#include "gatefold/train/adamw.hpp"

namespace gatefold::bench {
namespace {

using Tower = ClipTowerOptions;
constexpr Index kExperts = 4, kSelected = 2;

/// That of train_clip.
ClipOptions tiny_clip() {
  const Tower text{.width = 96, .hidden = 384, .num_layers = 3, .num_heads = 3};
  auto vision = text;
  vision.num_layers = 4;
  return {
      .image_size = 48, .patch = 6, .vocabulary = 512, .context = 24, .embedding = 64, .vision = vision, .text = text};
}

struct Model {
  Clip<float> clip, grad;
};

std::shared_ptr<Model> model_of(const ClipOptions& o, bool mixtures) {
  Context ctx;
  Rng rng(1);
  if (!mixtures && !checkpoint().empty()) {
    auto clip = load_clip(open_clip_file(checkpoint()));
    return std::make_shared<Model>(Model{clip, zeros_like(clip)});
  }
  Clip<float> clip(o);
  initialise(clip, rng, ctx);
  if (mixtures) clip = upcycle(std::move(clip), {.num_experts = kExperts, .num_selected = kSelected}, rng);
  return std::make_shared<Model>(Model{clip, zeros_like(clip)});
}

struct StepOf {
  std::shared_ptr<Model> model;
  std::optional<AdamW<Clip<float>>> optimizer;
  Frozen frozen;
  Tensor<float, 4> pixels;
  Tensor<Index, 2> ids;
  bool recompute;
  Context ctx;

  StepOf(std::shared_ptr<Model> m, const Trainable& trained, Index pairs, Index threads, bool again = false)
      : model(std::move(m)),
        frozen(model->clip, trained),
        pixels(bench::pixels(model->clip.options, pairs)),
        ids(bench::ids(model->clip.options, pairs)),
        recompute(again),
        ctx(with_threads(threads)) {
    ctx.frozen = &frozen;
  }
  StepOf(StepOf&&) = delete;

  void differentiate() {
    auto& [clip, grad] = *model;
    clip.vision.tower.encoder.recompute = clip.text.tower.encoder.recompute = recompute;
    const auto scope = ctx.workspace.scope();
    const Index pairs = ids.extent(0), width = clip.options.embedding;
    const auto image = ctx.workspace.take<float>(pairs, width), text = ctx.workspace.take<float>(pairs, width);
    const auto dimage = ctx.workspace.take<float>(pairs, width), dtext = ctx.workspace.take<float>(pairs, width);
    const auto saved = clip.forward_in_parts({.images = pixels, .ids = ids}, image, text, ctx);
    const SoftmaxContrastive contrastive;
    const auto loss = contrastive.forward<float>(image, text, clip.logit_scale.flat()[0], ctx);
    contrastive.backward<float>(loss, 1.0f, dimage, dtext, grad.logit_scale.flat()[0], ctx);
    clip.backward(saved, dimage, dtext, grad, ctx);
  }
  void step() {
    differentiate();
    optimizer->step_and_clear(model->clip, model->grad, {}, ctx);
  }
};

Contender step(const ClipOptions& o, bool mixtures, const Trainable& trained, Index pairs, Index threads,
               const std::string& name) {
  auto d = std::make_shared<StepOf>(model_of(o, mixtures), trained, pairs, threads);
  leave_result(name, [&] {
    d->differentiate();
    auto& grad = d->model->grad;
    const auto image = grad.vision.position.table.view(), text = grad.text.position.table.view();
    Tensor<float, 2> both({image.extent(0) + text.extent(0), image.extent(1)});
    std::copy_n(image.data(), image.size(), both.data());
    std::copy_n(text.data(), text.size(), both.data() + image.size());
    set_zero(grad);
    return both;
  });
  d->optimizer.emplace(d->model->clip, AdamWOptions{.lr = 1e-4, .trainable = trained});
  return {.run = [d] { d->step(); }, .scratch = [d] { return d->ctx.workspace.size_bytes(); }};
}

/// Products of a step: three of each in forward's, but two where weights do not move and one where nothing does.
double flops(const ClipOptions& o, bool nets_only) {
  const auto of = [&](const Tower& t, double tokens, double seen) {
    const double d = static_cast<double>(t.width), weights = nets_only ? 2 : 3;
    const double block = weights * 8 * d * d + 3 * 4 * d * seen + 3 * 4 * d * static_cast<double>(t.hidden);
    return static_cast<double>(t.num_layers) * tokens * block + weights * 2 * d * static_cast<double>(o.embedding);
  };
  const double grid = static_cast<double>(o.image_size / o.patch), words = static_cast<double>(o.context);
  const double patches = grid * grid * 2 * static_cast<double>(o.vision.width * o.patch * o.patch * o.channels);
  return of(o.vision, grid * grid + 1, grid * grid + 1) + of(o.text, words, (words + 1) / 2) +
         (nets_only ? 1 : 2) * patches;
}

void add_steps(Session& session, Index threads) {
  const auto o = checkpoint().empty() ? tiny_clip() : open_clip_file(checkpoint()).options;
  const Index pairs = session.quick() ? 4 : 256;
  const auto sizes = [&](std::string prefix) { return row_name(prefix, {{"pairs", pairs}, {"threads", threads}}); };
  for (const bool nets_only : {false, true}) {
    Case row;
    row.name = sizes(nets_only ? "clip_step/nets" : "clip_step/all");
    row.threads = threads;
    row.work = {
        .flops = static_cast<double>(pairs) * flops(o, nets_only), .unit = "pair", .units = static_cast<double>(pairs)};
    const auto trained = nets_only ? feed_forward_only() : Trainable();
    row.entrants.push_back(
        {"gatefold", [=, name = row.name] { return step(o, false, trained, pairs, threads, name); }});
    session.add(std::move(row));
  }
  Case row;
  row.name = sizes("clip_router");
  row.threads = threads;
  row.work = {.unit = "pair", .units = static_cast<double>(pairs)};
  const auto moe = [=](const Trainable& trained) {
    return [=] { return step(tiny_clip(), true, trained, pairs, threads, ""); };
  };
  row.entrants = {{"gatefold", moe(routers_only())}, {"all", moe(Trainable()), Entrant::Role::self}};
  session.add(std::move(row));
}

/// Tokens as they come from a norm.
void add_nets(Session& session, Index width, Index tokens, Index threads) {
  using Net = Mlp<float, QuickGelu>;
  using Mixture = SparseMlp<TopKRouter<float>, Net>;
  Case row;
  row.name = row_name("clip_moe_nets", {{"width", width}, {"tokens", tokens}, {"threads", threads}});
  row.threads = threads;
  row.work = {.flops = static_cast<double>(kSelected * tokens * 4 * width * 4 * width),
              .unit = "token",
              .units = static_cast<double>(tokens)};
  const Net net({.width = width, .hidden = 4 * width});
  const auto contender = [=]<class L>(L layer, Index calls) {
    struct Data {
      decltype(pack<float>(std::declval<L>())) packed;
      Tensor<float, 2> x, y;
      Context ctx;
    };
    auto d = std::make_shared<Data>(Data{pack<float>(layer), random_rows(tokens, width, 2),
                                         Tensor<float, 2>({tokens, width}), with_threads(threads)});
    return Contender{.run = [d, calls] {
      for (Index call = 0; call < calls; ++call) infer(d->packed, d->x, d->y, d->ctx);
    }};
  };
  row.entrants.push_back({"gatefold", [=] {
                            TopKRouter<float> router({.width = width,
                                                      .num_experts = kExperts,
                                                      .num_selected = kSelected,
                                                      .renormalise = Renormalise::before_dropping});
                            return contender(filled(Mixture(router, net)), 1);
                          }});
  row.entrants.push_back({"two_dense", [=] { return contender(filled(net), kSelected); }, Entrant::Role::self});
  session.add(std::move(row));
}

void add_recompute(Session& session, Index pairs, Index threads) {
  Case row;
  row.name = row_name("clip_recompute", {{"pairs", pairs}, {"threads", threads}});
  row.threads = threads;
  row.least_rounds = 2;
  row.work = {.unit = "pair", .units = static_cast<double>(pairs)};
  const auto o = session.quick() ? tiny_clip() : ClipOptions();
  const auto shared = std::make_shared<std::weak_ptr<Model>>();
  const auto contender = [=](bool recompute) {
    return [=]() -> std::optional<Contender> {
      auto model = shared->lock();
      if (!model) *shared = model = model_of(o, false);
      auto d = std::make_shared<StepOf>(model, Trainable(), pairs, threads, recompute);
      return Contender{.run = [d] { d->differentiate(); }, .scratch = [d] { return d->ctx.workspace.size_bytes(); }};
    };
  };
  row.entrants = {{"gatefold", contender(true)}, {"kept", contender(false), Entrant::Role::self}};
  session.add(std::move(row));
}

void add_kmeans(Session& session, Index rows, Index threads) {
  constexpr Index kClusters = 9;
  const Index width = session.quick() ? 16 : 512;
  Case row;
  row.name = row_name("kmeans", {{"rows", rows}, {"width", width}, {"clusters", kClusters}, {"threads", threads}});
  row.threads = threads;
  row.least_rounds = 1;
  row.work = {.unit = "row", .units = static_cast<double>(rows)};
  const auto shared = std::make_shared<std::weak_ptr<Tensor<float, 2>>>();
  const auto contender = [=](Index batch) {
    return [=]() -> std::optional<Contender> {
      auto x = shared->lock();
      if (!x) {  // around as many centres, so that it takes as many passes as embeddings do, and not as noise
        *shared = x = std::make_shared<Tensor<float, 2>>(random_rows(rows, width, 5));
        const auto centres = random_rows(kClusters, width, 6);
        for (Index r = 0; r < rows; ++r)
          for (Index d = 0; d < width; ++d) x->view()(r, d) += centres.view()(r % kClusters, d);
      }
      auto ctx = std::make_shared<Context>(with_threads(threads));
      return Contender{
          .run = [=] { (void)kmeans<float>(x->view(), {.num_clusters = kClusters, .batch = batch, .seed = 1}, *ctx); },
          .scratch = [ctx] { return ctx->workspace.size_bytes(); }};
    };
  };
  row.entrants = {{"gatefold", contender(0)}, {"mini_batch", contender(4096), Entrant::Role::self}};
  session.add(std::move(row));
}

}  // namespace

void add_cases(Session& session) {
  const bool quick = session.quick();
  for (const Index threads : {1, 2}) {
    add_steps(session, threads);
    add_nets(session, quick ? 16 : 96, quick ? 32 : 16640, threads);
    if (!quick) add_nets(session, 768, 400, threads);
  }
  add_recompute(session, quick ? 2 : 4, 2);
  add_kmeans(session, quick ? 500 : 1 << 16, 2);
  if (!session.large()) return;
  add_recompute(session, 64, 2);
  add_kmeans(session, 1'000'000, 2);
}

}  // namespace gatefold::bench
