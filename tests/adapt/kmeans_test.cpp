#include "gatefold/adapt/kmeans.hpp"

#include <numeric>

#include "tests/support/test_data.hpp"
#include "tests/support/threads.hpp"

namespace gatefold {
namespace {

/// Rows around `centres` points, of unlike lengths. // [R, D]
Tensor<float, 2> rows(Index count, Index width, Index centres, double spread, std::uint64_t seed = 1) {
  Tensor<float, 2> x({count, width});
  Rng rng(seed);
  Tensor<float, 2> centre({centres, width});
  for (float& v : centre.flat()) v = static_cast<float>(rng.normal());
  for (Index r = 0; r < count; ++r)
    for (Index d = 0; d < width; ++d)
      x.view()(r, d) = centre.view()(r % centres, d) + static_cast<float>(spread * rng.normal());
  return x;
}

/// By its definition.
double inertia_of(const KMeans<float>& clusters, Rows<const float> x, std::span<const Index> label) {
  double sum = 0;
  for (Index r = 0; r < x.extent(0); ++r) {
    double scale = 1, square = 0;
    for (Index d = 0; d < x.extent(1); ++d) square += double{x(r, d)} * double{x(r, d)};
    if (clusters.unit_norm) scale = 1 / std::sqrt(square);
    for (Index d = 0; d < x.extent(1); ++d)
      sum +=
          std::pow(scale * double{x(r, d)} - double{clusters.centres.view()(label[static_cast<std::size_t>(r)], d)}, 2);
  }
  return sum;
}

TEST(KMeans, FindsClustersThatAreApart) {
  const auto x = rows(300, 20, 5, 0.05);
  Context ctx;
  for (const Index batch : {Index{0}, Index{40}}) {
    const auto fit = kmeans<float>(x, {.num_clusters = 5, .batch = batch, .seed = 3}, ctx);
    EXPECT_TRUE(fit.converged);
    std::set<Index> used;
    for (Index r = 0; r < 300; ++r) {
      EXPECT_EQ(fit.label[static_cast<std::size_t>(r)], fit.label[static_cast<std::size_t>(r % 5)]);
      used.insert(fit.label[static_cast<std::size_t>(r)]);
    }
    EXPECT_EQ(used.size(), 5U);
    EXPECT_NEAR(fit.inertia, inertia_of(fit.clusters, x, fit.label), 1e-9 * fit.inertia);
    EXPECT_NEAR(fit.inertia, 300 * 20 * 0.05 * 0.05, 1.5);
  }
}

TEST(KMeans, NoStepOfLloydMakesItWorse) {
  const auto x = rows(500, 16, 40, 0.5);
  Context ctx;
  for (const bool unit : {false, true}) {
    auto clusters = kmeans_plus_plus<float>(x, {.num_clusters = 7, .unit_norm = unit}, ctx);
    std::vector<Index> label(500, -2);
    double before = std::numeric_limits<double>::infinity();
    for (int i = 0; i < 30; ++i) {
      const auto step = clusters.lloyd(x, label, ctx);
      EXPECT_LE(step.inertia, before * (1 + 1e-7));  // centres are rounded to float
      before = step.inertia;
      if (step.changed == 0) {
        EXPECT_EQ(step.shift, 0);
        break;
      }
    }
    EXPECT_EQ(std::accumulate(clusters.weight.flat().begin(), clusters.weight.flat().end(), 0.0), 500);
    EXPECT_NEAR(before, inertia_of(clusters, x, label), 1e-7 * before);
  }
}

TEST(KMeans, SameBitsForAnyNumberOfThreads) {
  const auto x = rows(9000, 300, 30, 0.7);  // several blocks of rows and tiles of columns
  for (const Index batch : {Index{0}, Index{700}}) {
    const KMeansOptions o{.num_clusters = 6, .batch = batch, .max_iterations = 4, .unit_norm = true, .seed = 5};
    Context one;
    one.parallel_for = ParallelFor();
    const auto wanted = kmeans<float>(x, o, one);
    for (const int workers : {2, 3}) {
      Context ctx;
      ctx.parallel_for = test::threads(workers);
      const auto got = kmeans<float>(x, o, ctx);
      EXPECT_EQ(got.clusters.centres, wanted.clusters.centres);
      EXPECT_EQ(got.label, wanted.label);
      EXPECT_EQ(got.inertia, wanted.inertia);
    }
    auto other = o;
    other.seed = 6;
    EXPECT_NE(kmeans<float>(x, other, one).clusters.centres, wanted.clusters.centres);
  }
}

TEST(KMeans, UnitNormForgetsTheLengthsOfRows) {
  auto x = rows(200, 12, 9, 0.3);
  Context ctx;
  const KMeansOptions o{.num_clusters = 4, .unit_norm = true, .seed = 2};
  const auto before = kmeans<float>(x, o, ctx);
  for (Index r = 0; r < 200; ++r)
    for (Index d = 0; d < 12; ++d) x.view()(r, d) *= static_cast<float>(1 << r % 5);  // exact
  const auto after = kmeans<float>(x, o, ctx);
  EXPECT_EQ(after.label, before.label);
  EXPECT_NEAR(after.inertia, before.inertia, 1e-5 * before.inertia);
}

TEST(KMeans, RowsThatAreNotFiniteBelongToNoCluster) {
  auto x = rows(60, 8, 3, 0.1);
  Context ctx;
  const KMeansOptions o{.num_clusters = 3, .seed = 2};
  Tensor<float, 2> with({62, 8});
  std::copy(x.flat().begin(), x.flat().end(), with.flat().begin());
  for (Index d = 0; d < 8; ++d) with.view()(60, d) = with.view()(61, d) = 1;
  with.view()(60, 3) = std::numeric_limits<float>::quiet_NaN();
  with.view()(61, 5) = -std::numeric_limits<float>::infinity();
  for (const bool unit : {false, true}) {
    auto how = o;
    how.unit_norm = unit;
    const auto start = kmeans_plus_plus<float>(x, how, ctx);
    const auto wanted = kmeans_from<float>(start, x, how, ctx), got = kmeans_from<float>(start, with, how, ctx);
    EXPECT_EQ(got.clusters.centres, wanted.clusters.centres);
    EXPECT_EQ(got.inertia, wanted.inertia);
    EXPECT_EQ(got.label[60], -1);
    EXPECT_EQ(got.label[61], -1);
    EXPECT_NO_THROW((void)kmeans<float>(with, how, ctx));
  }
}

TEST(KMeans, AnEmptyClusterTakesTheFarthestRow) {
  Tensor<float, 2> x({5, 1}), start({3, 1});
  std::ranges::copy(std::vector<float>{0, 1, 2, 10, 20}, x.flat().begin());
  std::ranges::copy(std::vector<float>{1, 5, 1000}, start.flat().begin());
  Context ctx;
  KMeans<float> clusters(start);
  std::vector<Index> label(5);
  clusters.lloyd(x, label, ctx);  // 20 was farthest from its centre, 5
  EXPECT_EQ(label, (std::vector<Index>{0, 0, 0, 1, 2}));
  EXPECT_EQ(std::vector(clusters.centres.flat().begin(), clusters.centres.flat().end()),
            (std::vector<float>{1, 10, 20}));
}

TEST(KMeans, AsManyClustersAsEqualRowsAllow) {
  Tensor<float, 2> x({6, 3});
  std::ranges::fill(x.flat(), 2.0f);
  Context ctx;
  const auto fit = kmeans<float>(x, {.num_clusters = 4}, ctx);
  EXPECT_EQ(fit.inertia, 0);
  EXPECT_EQ(fit.label, std::vector<Index>(6, 0));
}

TEST(KMeans, RefusesWhatMakesNoSense) {
  const auto x = rows(6, 3, 2, 0.1);
  Context ctx;
  EXPECT_THROW((void)kmeans<float>(x, {.num_clusters = 0}, ctx), OptionError);
  EXPECT_THROW((void)kmeans<float>(x, {.num_clusters = 7}, ctx), OptionError);
  EXPECT_THROW((void)kmeans<float>(x, {.num_clusters = 2, .batch = -1}, ctx), OptionError);
  EXPECT_THROW((void)kmeans<float>(x, {.num_clusters = 2, .tolerance = -1}, ctx), OptionError);
  KMeans<float> clusters(Tensor<float, 2>({2, 4}));
  std::vector<Index> label(6);
  EXPECT_THROW((void)clusters.assign(x, label, ctx), ShapeError);
}

/// Lines of the golden file: name, then numbers.
class Golden {
 public:
  Golden() {
    std::ifstream file(test::test_data("kmeans_goldens.txt"));
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line);
      std::string name;
      if (line.starts_with('#') || !(words >> name)) continue;
      for (double v; words >> v;) values_[name].push_back(v);
    }
  }
  const std::vector<double>& operator()(const std::string& name) const { return values_.at(name); }
  Tensor<float, 2> matrix(const std::string& name, Index count) const {
    const auto& v = (*this)(name);
    Tensor<float, 2> m({count, std::ssize(v) / count});
    std::ranges::transform(v, m.flat().begin(), [](double x) { return static_cast<float>(x); });
    return m;
  }

 private:
  std::map<std::string, std::vector<double>> values_;
};

std::vector<Index> indices(const std::vector<double>& v) { return {v.begin(), v.end()}; }

TEST(KMeansGolden, LloydIsThatOfScikitLearn) {
  const Golden golden;
  const auto x = golden.matrix("x", 120);
  Context ctx;
  for (const bool unit : {false, true}) {
    const std::string name = unit ? "unit" : "plain";
    const auto fit =
        kmeans_from<float>(KMeans<float>(golden.matrix(name + "_start", 5), unit), x, {.tolerance = 0}, ctx);
    EXPECT_TRUE(fit.converged);
    EXPECT_EQ(fit.label, indices(golden(name + "_label")));
    EXPECT_NEAR(fit.inertia, golden(name + "_inertia")[0], 1e-5 * fit.inertia);
    EXPECT_EQ(static_cast<double>(fit.iterations), golden(name + "_iterations")[0]);
  }
}

TEST(KMeansGolden, StepsOfMiniBatchesAreThoseOfScikitLearn) {
  const Golden golden;
  const auto x = golden.matrix("x", 120);
  Context ctx;
  KMeans<float> clusters(golden.matrix("plain_start", 5));
  for (Index step = 0; step < 6; ++step) (void)clusters.learn(x.view().rows(20 * step, 20 * step + 20), ctx);
  const auto& wanted = golden("batch_centres");
  for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(double{clusters.centres.flat()[i]}, wanted[i], 1e-5);
  std::vector<Index> label(120);
  EXPECT_NEAR(clusters.assign(x, label, ctx), golden("batch_inertia")[0], 1e-5 * golden("batch_inertia")[0]);
}

}  // namespace
}  // namespace gatefold
