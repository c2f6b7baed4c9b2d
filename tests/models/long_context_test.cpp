#include "gatefold/models/long_context.hpp"

#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

// As Long-CLIP's load_from_clip writes it: new[20 + 4 i + j] = (1 - j / 4) p[20 + i] + (j / 4) p[21 + i], i < 56, and
// new[244 + j] = p[76] + (j / 4) (p[76] - p[75]).
TEST(StretchPositions, Of77Make248) {
  const auto table = test::random_matrix<double>({77, 5}, 3);
  const auto p = table.view();
  const auto longer = stretch_positions(table);
  ASSERT_EQ(longer.shape(), (Shape<2>{248, 5}));
  const auto got = longer.view();
  for (Index d = 0; d < 5; ++d) {
    for (Index i = 0; i < 20; ++i) EXPECT_EQ(got(i, d), p(i, d));
    for (Index i = 0; i < 56; ++i) {
      EXPECT_EQ(got(20 + 4 * i, d), p(20 + i, d));
      EXPECT_NEAR(got(21 + 4 * i, d), 0.75 * p(20 + i, d) + 0.25 * p(21 + i, d), 1e-15);
      EXPECT_NEAR(got(22 + 4 * i, d), 0.5 * p(20 + i, d) + 0.5 * p(21 + i, d), 1e-15);
      EXPECT_NEAR(got(23 + 4 * i, d), 0.25 * p(20 + i, d) + 0.75 * p(21 + i, d), 1e-15);
    }
    for (Index j = 0; j < 4; ++j)
      EXPECT_NEAR(got(244 + j, d), p(76, d) + 0.25 * static_cast<double>(j) * (p(76, d) - p(75, d)), 1e-15);
  }
}

TEST(StretchPositions, OtherFactorsAndWhatIsRefused) {
  const auto table = test::random_matrix<double>({6, 2}, 3);
  EXPECT_EQ(stretch_positions(table, {.kept = 2, .factor = 1}), table);
  EXPECT_EQ(stretch_positions(table, {.kept = 0, .factor = 3}).extent(0), 18);
  EXPECT_THROW((void)stretch_positions(table, {.kept = 5}), OptionError);
  EXPECT_THROW((void)stretch_positions(table, {.kept = -1}), OptionError);
  EXPECT_THROW((void)stretch_positions(table, {.kept = 2, .factor = 0}), OptionError);
}

TEST(StretchContext, ShortTextsKeepTheirEmbeddings) {
  const ClipOptions o{.image_size = 4,
                      .patch = 4,
                      .vocabulary = 12,
                      .context = 9,
                      .embedding = 6,
                      .vision = {.width = 8, .hidden = 8, .num_layers = 1, .num_heads = 2},
                      .text = {.width = 8, .hidden = 8, .num_layers = 2, .num_heads = 2}};
  Clip<float> model(o);
  test::disturb(model, 4, 0.3);
  const auto longer = stretch_context(model, {.kept = 5});
  EXPECT_EQ(longer.options.context, 5 + 4 * 4);
  const auto encode = [](const Clip<float>& clip, std::vector<Index> ids) {
    ids.resize(static_cast<std::size_t>(clip.options.context));
    Tensor<float, 2> z({1, 6});
    Context ctx;
    clip.encode_texts({ids.data(), {1, std::ssize(ids)}}, z, ctx);
    return z;
  };
  EXPECT_EQ(encode(longer, {3, 1, 4, 2, 11}), encode(model, {3, 1, 4, 2, 11}));
  EXPECT_NE(encode(longer, {3, 1, 4, 2, 5, 5, 11}), encode(model, {3, 1, 4, 2, 5, 5, 11}));
  EXPECT_NO_THROW(encode(longer, {3, 1, 4, 2, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 11}));
}

}  // namespace
}  // namespace gatefold
