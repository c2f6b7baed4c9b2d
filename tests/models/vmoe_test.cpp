#include "gatefold/models/vmoe.hpp"

#include "gatefold/losses/cross_entropy.hpp"
#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

VmoeOptions tiny() {
  return {.image_size = 4,
          .patch = 2,
          .channels = 2,
          .num_classes = 3,
          .width = 8,
          .hidden = 3,
          .num_layers = 2,
          .num_heads = 2,
          .sparse = {.layers = {1}},
          .num_experts = 3,
          .num_selected = 2,
          .capacity = {.factor = 1.0},
          .router_noise = 1.5,
          .importance = 0.3,
          .load = 0.2};
}
/// Whose every number is differentiated.
VmoeOptions narrow() {
  auto o = tiny();
  o.width = 4;
  return o;
}
VmoeOptions by_mean(VmoeOptions o) {
  o.classifier = VmoeOptions::Classifier::mean;
  return o;
}
VmoeOptions dense(VmoeOptions o) {
  o.sparse = Placement::none();
  return o;
}

template <class T>
Tensor<T, 4> pictures(Index batch) {
  Tensor<T, 4> images({batch, 4, 4, 2});
  Rng rng(9);
  for (T& v : images.flat()) v = T(static_cast<double>(static_cast<float>(rng.normal())));
  return images;
}
Tensor<Index, 1> labels(Index batch) {
  Tensor<Index, 1> label({batch});
  for (Index i = 0; i < batch; ++i) label.data()[i] = i * i % 3;
  return label;
}
template <class T>
Vmoe<T> random_vmoe(const VmoeOptions& options) {
  Vmoe<T> model(options);
  test::disturb(model, 4, 0.4);
  return model;
}
template <class T>
Tensor<T, 2> logits_of(const Vmoe<T>& model, const Tensor<T, 4>& images) {
  Tensor<T, 2> logits({images.extent(0), model.options.num_classes});
  Context ctx;
  (void)model.forward(images, logits, ctx);
  return logits;
}

constexpr CrossEntropy kTask{.label_smoothing = 0.1};

/// The noise is the same in every pass.
template <class T>
T total_loss(const Vmoe<T>& model, const Tensor<T, 4>& images, Context& ctx) {
  const auto scope = ctx.workspace.scope();
  Rng noise(3);
  ctx.rng = &noise;
  auto logits = ctx.workspace.take<T>(images.extent(0), model.options.num_classes);
  const auto label = labels(images.extent(0));
  const auto saved = model.forward(images, logits, ctx);
  return kTask.forward<T>(logits, label, ctx).loss + aux_loss(model, saved, ctx);
}
template <class T>
Vmoe<T> gradient(const Vmoe<T>& model, const Tensor<T, 4>& images, Context& ctx) {
  const auto scope = ctx.workspace.scope();
  Rng noise(3);
  ctx.rng = &noise;
  auto logits = ctx.workspace.take<T>(images.extent(0), model.options.num_classes);
  auto dlogits = ctx.workspace.take<T>(images.extent(0), model.options.num_classes);
  const auto label = labels(images.extent(0));
  auto grad = zeros_like(model);
  const auto saved = model.forward(images, logits, ctx);
  kTask.backward<T>(kTask.forward<T>(logits, label, ctx), T(1), dlogits, ctx);
  model.backward(saved, dlogits, grad, ctx);
  return grad;
}

void check_gradients(const VmoeOptions& options) {
  const auto model = random_vmoe<double>(options);
  Vmoe<Dual> lifted(options);
  convert(model, lifted);
  Context ctx;
  const auto grad = gradient(model, pictures<double>(4), ctx);
  const auto images = pictures<Dual>(4);
  std::size_t moved = 0, count = 0;
  for_each_param(
      [&](std::string_view path, const auto& g, auto& variables) {
        for (std::size_t i = 0; i < g.flat().size(); ++i, ++count) {
          variables.flat()[i].d = 1;
          const double wanted = total_loss(lifted, images, ctx).d;
          variables.flat()[i].d = 0;
          ASSERT_NEAR(g.flat()[i], wanted, 1e-10 * (1 + std::abs(wanted))) << path << " " << i;
          moved += wanted != 0;
        }
      },
      grad, lifted);
  EXPECT_GT(moved, count / 2);  // the comparison is not one of zeros
}

TEST(Vmoe, GradientsWithAClassTokenAndLossesOnTheRouting) { check_gradients(narrow()); }
TEST(Vmoe, GradientsOfTwoSparseBlocksInGroupsByTheMean) {
  auto o = by_mean(narrow());
  o.sparse.layers = {0, 1};
  o.num_selected = 1;
  o.images_per_group = 2;
  o.priority = Priority::max_gate;
  check_gradients(o);
}
TEST(Vmoe, GradientsOfTheDenseTwin) { check_gradients(dense(narrow())); }

TEST(Vmoe, ListsItsParameters) {
  auto model = Vmoe<float>(tiny());
  std::vector<std::string> paths;
  for_each_param([&](std::string_view path, auto&) { paths.emplace_back(path); }, model);
  std::vector<std::string> wanted{"patch_embed.projection.weight", "patch_embed.projection.bias", "class_token.token",
                                  "position.table"};
  for (const std::string block : {"0", "1"}) {
    for (const std::string part :
         {"attention.norm.gain", "attention.norm.bias", "attention.inner.qkv.weight", "attention.inner.qkv.bias",
          "attention.inner.out.weight", "attention.inner.out.bias", "ffn.norm.gain", "ffn.norm.bias"})
      wanted.push_back("trunk.blocks." + block + "." + part);
    if (block == "1") wanted.push_back("trunk.blocks.1.ffn.inner.router.weight");
    for (const std::string& net : block == "1" ? std::vector<std::string>{"experts.0.", "experts.1.", "experts.2."}
                                               : std::vector<std::string>{""})
      for (const std::string part : {"up.weight", "up.bias", "down.weight", "down.bias"})
        wanted.push_back("trunk.blocks." + block + ".ffn.inner." + net + part);
  }
  for (const char* path : {"trunk.norm.gain", "trunk.norm.bias", "head.weight", "head.bias"}) wanted.emplace_back(path);
  EXPECT_EQ(paths, wanted);

  paths.clear();
  auto other = Vmoe<float>(by_mean(tiny()));
  for_each_param([&](std::string_view path, auto&) { paths.emplace_back(path); }, other);
  EXPECT_THAT(paths, testing::Not(testing::Contains("class_token.token")));
  EXPECT_EQ(other.position.table.extent(0), 4);
  EXPECT_THROW(for_each_param([](std::string_view, auto&, auto&) {}, model, other), std::invalid_argument);
}

/// The published sizes of the encoder with 32 experts in every second block: of each of them, 31 more nets and a
/// router.
TEST(Vmoe, ASparseBlockAddsAsManyParametersAsInThePaper) {
  VmoeOptions o{.image_size = 16, .patch = 16, .width = 64, .hidden = 256, .num_layers = 4, .num_experts = 32};
  const Index before = count_params(Vmoe<float>(o));
  o.sparse = Placement::every(2, 4);
  EXPECT_EQ(count_params(Vmoe<float>(o)) - before, 2 * (31 * (2 * 64 * 256 + 256 + 64) + 64 * 32));
}

TEST(Vmoe, WithSeatsForAllAPictureIsAsIfAlone) {
  for (auto o : {tiny(), by_mean(tiny())}) {
    o.capacity = {};
    const auto model = random_vmoe<double>(o);
    const auto images = pictures<double>(5);
    const auto all = logits_of(model, images);
    for (Index b = 0; b < 5; ++b) {
      Tensor<double, 4> one({1, 4, 4, 2});
      std::copy_n(&images.view()(b, 0, 0, 0), one.size(), one.data());
      const auto alone = logits_of(model, one);
      for (Index c = 0; c < 3; ++c) EXPECT_NEAR(alone.view()(0, c), all.view()(b, c), 1e-12);
    }
    EXPECT_EQ(logits_of(model, Tensor<double, 4>({0, 4, 4, 2})).size(), 0);
  }
}

/// A group shares its seats with nobody: its logits are those of a pass over it alone.
TEST(Vmoe, GroupsOfImagesAreRoutedByThemselves) {
  auto o = tiny();
  o.capacity.factor = 0.5;
  o.images_per_group = 2;
  const auto model = random_vmoe<double>(o);
  const auto images = pictures<double>(6);
  const auto all = logits_of(model, images);
  for (Index first = 0; first < 6; first += 2) {
    Tensor<double, 4> two({2, 4, 4, 2});
    std::copy_n(&images.view()(first, 0, 0, 0), two.size(), two.data());
    const auto alone = logits_of(model, two);
    for (Index i = 0; i < 2; ++i)
      for (Index c = 0; c < 3; ++c) EXPECT_NEAR(alone.view()(i, c), all.view()(first + i, c), 1e-12);
  }
  o.images_per_group = 0;
  const auto together = logits_of(random_vmoe<double>(o), images);
  EXPECT_NE(together, all);
}

/// Of all sparse experts alike and all of them asked, a mixture is its expert times the sum of its gates, which is 1.
TEST(Vmoe, WithEqualExpertsItIsTheDenseTwin) {
  auto o = tiny();
  o.num_selected = o.num_experts;
  o.capacity = {};
  auto model = random_vmoe<double>(o);
  auto twin = Vmoe<double>(dense(o));
  for_each_sparse(model, [&](std::string_view, auto& sparse) {
    for (auto& expert : sparse.experts) expert = sparse.experts[0];
  });
  std::map<std::string, std::vector<double>> weights;
  for_each_param(
      [&](std::string_view path, const auto& t) {
        std::string name(path);
        if (const auto at = name.find("experts.0."); at != name.npos) name.erase(at, 10);
        weights[name].assign(t.flat().begin(), t.flat().end());
      },
      model);
  for_each_param(
      [&](std::string_view path, auto& t) { std::ranges::copy(weights.at(std::string(path)), t.flat().begin()); },
      twin);
  const auto a = logits_of(model, pictures<double>(3)), b = logits_of(twin, pictures<double>(3));
  for (Index i = 0; i < a.size(); ++i) EXPECT_NEAR(a.data()[i], b.data()[i], 1e-12);
}

TEST(Vmoe, SeatsMayBeSetForUse) {
  auto o = tiny();
  o.num_selected = 1;
  const auto images = pictures<double>(6);
  auto model = random_vmoe<double>(o);
  const auto seats_of = [&](const Capacity& capacity, Priority priority) {
    model.set_seats(capacity, priority);
    EXPECT_EQ(model.options.capacity, capacity);
    EXPECT_EQ(model.options.priority, priority);
    RoutingReport report;
    Context ctx;
    ctx.report = &report;
    Tensor<double, 2> logits({6, 3});
    (void)model.forward(images, logits, ctx);
    return std::pair(report.layers()[0].total(), logits);
  };
  const auto [all, unlimited] = seats_of({}, Priority::position);
  EXPECT_EQ(all.drop_fraction(), 0);
  EXPECT_EQ(all.tokens, 6 * 5);
  const auto [few, by_position] = seats_of({.factor = 0.5}, Priority::position);
  for (const double seated : few.seated) EXPECT_LE(seated, 5);  // ceil(30 / 3 / 2)
  EXPECT_GE(few.drop_fraction(), 0.5);
  const auto [best, by_gate] = seats_of({.factor = 0.5}, Priority::max_gate);
  EXPECT_EQ(best.seated, few.seated);  // as many, but others
  EXPECT_NE(by_gate, by_position);
  EXPECT_NE(by_gate, unlimited);
}

TEST(Vmoe, SameBitsForAnyNumberOfThreads) {
  const auto model = random_vmoe<float>(tiny());
  const auto images = pictures<float>(300);
  const auto with = [&](ParallelFor parallel_for) {
    Context ctx;
    ctx.parallel_for = std::move(parallel_for);
    return gradient(model, images, ctx);
  };
  const auto serial = with(ParallelFor());
  for (const Index workers : {2, 7}) {
    const auto parallel = with(test::threads(workers));
    for_each_param([](std::string_view path, const auto& a, const auto& b) { EXPECT_EQ(a, b) << path; }, parallel,
                   serial);
  }
}

TEST(Vmoe, NoAllocationAfterWarmUpAndTheLayoutIsGivenBack) {
  const auto model = random_vmoe<float>(tiny());
  const auto images = pictures<float>(3);
  Tensor<float, 2> logits({3, 3});
  auto grad = zeros_like(model);
  Context ctx;
  ctx.parallel_for = ParallelFor();
  const TokenLayout mine;
  ctx.layout = &mine;
  const auto pass = [&] {
    const auto scope = ctx.workspace.scope();
    const auto saved = model.forward(images, logits, ctx);
    model.backward(saved, logits, grad, ctx);
  };
  pass();
  const auto blocks = ctx.workspace.allocations();
  const test::AllocGuard guard;
  pass();
  EXPECT_EQ(guard.count(), 0);
  EXPECT_EQ(ctx.workspace.allocations(), blocks);
  EXPECT_EQ(ctx.layout, &mine);
}

TEST(Vmoe, BeginsByKnowingNothingAndWithUnlikeExperts) {
  Vmoe<float> model(tiny());
  Context ctx;
  Rng rng(1);
  model.initialise(rng, ctx);
  EXPECT_EQ(logits_of(model, pictures<float>(2)), (Tensor<float, 2>({2, 3})));
  for_each_sparse(model, [](std::string_view, const auto& sparse) {
    EXPECT_NE(sparse.experts[0].up.weight, sparse.experts[1].up.weight);
    EXPECT_NE(norm(sparse.router), 0);
  });
  EXPECT_NE(norm(model.position), 0);
}

TEST(Vmoe, MayBePacked) {
  auto o = tiny();
  o.capacity = {};
  o.width = 48, o.hidden = 70;
  Vmoe<float> model(o);
  Context ctx;
  Rng rng(1);
  model.initialise(rng, ctx);
  test::disturb(model, 2, 0.05);
  const auto images = pictures<float>(5);
  const auto wanted = logits_of(model, images);
  const auto check = [&]<class F>(std::type_identity<F>, double tolerance) {
    const auto packed = pack<F>(model);
    static_assert(std::same_as<decltype(pack<F>(model)), Vmoe<float, Packed<F>>>);
    Tensor<float, 2> logits({5, 3});
    (void)packed.forward(images, logits, ctx);
    double error = 0, size = 0;
    for (Index i = 0; i < logits.size(); ++i)
      error += std::pow(logits.data()[i] - wanted.data()[i], 2), size += std::pow(wanted.data()[i], 2);
    EXPECT_LE(std::sqrt(error / size), tolerance);
  };
  // A patch embedding, two blocks of four products and a head, in 24 and 8 bits.
  check(std::type_identity<float>{}, 1e-4);
  check(std::type_identity<bf16>{}, 0.05);
}

TEST(Vmoe, RefusesWhatDoesNotFit) {
  const Vmoe<float> model(tiny());
  Context ctx;
  Tensor<float, 2> logits({3, 3}), narrow({3, 2});
  EXPECT_NO_THROW((void)model.forward(pictures<float>(3), logits, ctx));
  EXPECT_THROW((void)model.forward(pictures<float>(3), narrow, ctx), ShapeError);
  EXPECT_THROW((void)model.forward(pictures<float>(2), logits, ctx), ShapeError);
  for (const Shape<4>& shape : {Shape<4>{3, 4, 6, 2}, Shape<4>{3, 6, 4, 2}, Shape<4>{3, 4, 4, 1}})
    EXPECT_THROW((void)model.forward(Tensor<float, 4>(shape), logits, ctx), ShapeError);
  const auto saved = model.forward(pictures<float>(3), logits, ctx);
  auto grad = zeros_like(model);
  EXPECT_THROW(model.backward(saved, narrow, grad, ctx), ShapeError);
  auto other = zeros_like(Vmoe<float>(dense(tiny())));
  EXPECT_THROW(model.backward(saved, logits, other, ctx), std::exception);

  for (const auto field :
       {&VmoeOptions::image_size, &VmoeOptions::patch, &VmoeOptions::channels, &VmoeOptions::num_classes,
        &VmoeOptions::width, &VmoeOptions::hidden, &VmoeOptions::num_layers, &VmoeOptions::num_heads}) {
    auto o = tiny();
    o.*field = 0;
    EXPECT_THAT([&] { Vmoe<float>{o}; },
                testing::ThrowsMessage<OptionError>(testing::HasSubstr(" is 0, expected at least 1")));
  }
  const auto refused = [](auto change, const char* why) {
    auto o = tiny();
    change(o);
    EXPECT_THAT([&] { Vmoe<float>{o}; }, testing::ThrowsMessage<OptionError>(testing::HasSubstr(why)));
  };
  refused([](auto& o) { o.patch = 3; }, "Vmoe: image_size 4 is not a multiple of patch 3");
  refused([](auto& o) { o.num_heads = 3; }, "3");
  refused([](auto& o) { o.num_selected = 4; }, "num_selected is 4, expected 1..3");
  refused([](auto& o) { o.sparse.layers = {2}; }, "Vmoe: sparse layer 2 does not exist, expected 0..1");
  refused([](auto& o) { o.images_per_group = -1; }, "images_per_group");
  refused([](auto& o) { o.importance = -1; }, "importance");
  refused([](auto& o) { o.load = std::numeric_limits<double>::infinity(); }, "load");
}

}  // namespace
}  // namespace gatefold
