// Whole models and what they generate as transformers has them: tests/data/make_vision_language_goldens.py.
#include <bit>
#include <fstream>
#include <map>
#include <sstream>

#include "gatefold/losses/cross_entropy.hpp"
#include "gatefold/models/generate.hpp"
#include "gatefold/models/vision_language.hpp"
#include "tests/support/layer_contract.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold {
namespace {

const std::vector<Index> kIds{3, 5, 8, 1, 2, 6, 7, 1, 4, 9, 10, 0, 2}, kOffset{0, 4, 6, 13}, kAnswer{2, 5, 10};
constexpr Index kKept = 5;

/// All numbers of what bears that name, the script's drawn.
template <class T, std::size_t Rank>
void draw(const std::string& name, Tensor<T, Rank>& t) {
  std::uint32_t key = 0x811c9dc5;
  for (const char c : name) key = (key ^ static_cast<unsigned char>(c)) * 0x01000193;
  const auto last = static_cast<int>(std::bit_width(static_cast<std::size_t>(t.extent(Rank - 1))));
  for (Index i = 0; i < t.size(); ++i) {
    const auto hash = ((static_cast<std::uint64_t>(i) * 7919 + key) * 2654435761u) & 0xffffffff;
    double value = static_cast<double>(hash >> 12) / 0x1p19 - 1;
    if (name.ends_with("gain")) value = 1 + value / 2;
    if (name.ends_with("weight")) value *= std::exp2(1 - (last - 1) / 2);
    if (name.ends_with("table")) value /= 4;
    t.data()[i] = T(value);
  }
}

struct Case {
  VisionLanguageOptions options;
  std::map<std::string, std::vector<double>> golden;
};

std::map<std::string, Case> read_cases() {
  std::map<std::string, Case> all;
  std::ifstream file(test::test_data("vision_language_goldens.txt"));
  Case* now = nullptr;
  for (std::string line; std::getline(file, line);) {
    std::istringstream in(line);
    std::string name;
    in >> name;
    if (name == "#") continue;
    if (name == "case") {
      std::string projector;
      bool tied = false, bias = false, norms = false;
      double base = 0;
      in >> name >> projector >> tied >> bias >> norms >> base;
      now = &all[name];
      now->options = {
          .vision =
              {.image_size = 4, .patch = 2, .channels = 2, .width = 8, .hidden = 12, .num_layers = 1, .num_heads = 2},
          .projector =
              projector == "mlp" ? VisionLanguageOptions::Projector::mlp : VisionLanguageOptions::Projector::linear,
          .vocabulary = 23,
          .context = 20,
          .width = 16,
          .hidden = 24,
          .num_layers = 2,
          .num_heads = 4,
          .num_key_heads = 2,
          .rotary_base = base,
          .attention_bias = bias,
          .query_key_norm = norms ? QueryKeyNorm::head : QueryKeyNorm::none,
          .head = tied ? VisionLanguageOptions::Head::tied : VisionLanguageOptions::Head::free};
      continue;
    }
    std::size_t count = 0;
    in >> count;
    auto& values = now->golden[name];
    values.resize(count);
    for (double& v : values) in >> v;
    EXPECT_TRUE(in) << line.substr(0, 40);
  }
  return all;
}

template <class T>
void check(const std::string& name, const Case& c) {
  SCOPED_TRACE(name);
  using Model = VisionLanguage<T>;
  Model model(c.options);
  for_each_param(
      [](std::string_view path, auto& t) {
        draw(std::string(path), t);
        // What comes out of Qwen2's attention has no bias.
        if (path.starts_with("decoder") && path.ends_with("attention.inner.out.bias"))
          std::ranges::fill(t.flat(), T(0));
      },
      model);
  Tensor<T, 4> images({3, 4, 4, 2});
  draw("images", images);
  const auto expect_golden = [&](const std::string& what, std::span<const T> came, double tolerance) {
    const auto& wanted = c.golden.at(what);
    ASSERT_EQ(came.size(), wanted.size()) << what;
    for (std::size_t i = 0; i < wanted.size(); ++i)
      ASSERT_NEAR(came[i], wanted[i], tolerance * (1 + std::abs(wanted[i]))) << what << " " << i;
  };
  const typename Model::Batch texts{.images = images,
                                    .ids = {kIds.data(), {13}},
                                    .text_offset = {kOffset.data(), {4}},
                                    .answer = {kAnswer.data(), {3}}};
  auto whole = texts;
  whole.answer = {kOffset.data(), {3}};
  Context ctx;
  Tensor<T, 2> logits({13, 23}), told({texts.num_answer_tokens(), 23}), dlogits(told.shape());
  (void)model.forward(whole, logits, ctx);
  expect_golden("logits", logits.flat(), 1e-5);

  auto grad = zeros_like(model);
  const auto saved = model.forward(texts, told, ctx);
  const auto loss = CrossEntropy{}.forward<T>(told, texts.answer_tokens(ctx.workspace), ctx);
  expect_golden("loss", {&loss.loss, 1}, 1e-5);
  CrossEntropy{}.backward<T>(loss, T(1), dlogits, ctx);
  model.backward(saved, dlogits, grad, ctx);
  std::size_t compared = 0;
  for_each_param(
      [&](std::string_view path, const auto& g) {
        if (!c.golden.contains(std::string(path))) return;
        std::vector<T> some;
        for (Index i = 0; i < g.size() && std::ssize(some) < kKept; i += std::max<Index>(1, g.size() / kKept))
          some.push_back(g.data()[i]);
        expect_golden(std::string(path), some, 1e-5);
        ++compared;
      },
      grad);
  EXPECT_EQ(compared + 3, c.golden.size());

  std::vector<Index> ids, offset{0};
  for (std::size_t b = 0; b < 3; ++b) {
    ids.insert(ids.end(), kIds.begin() + kOffset[b], kIds.begin() + kAnswer[b]);
    offset.push_back(std::ssize(ids));
  }
  const typename Model::Batch prompt{
      .images = images, .ids = {ids.data(), {std::ssize(ids)}}, .text_offset = {offset.data(), {4}}};
  std::vector<double> words;
  for (const auto& answer : generate(model, prompt, {.max_tokens = 9}, ctx))
    words.insert(words.end(), answer.ids.begin(), answer.ids.end());
  EXPECT_EQ(words, c.golden.at("words"));
}

TEST(VisionLanguageGolden, FourModelsOfTransformersWordForWord) {
  const auto cases = read_cases();
  ASSERT_EQ(cases.size(), 4u);
  for (const auto& [name, c] : cases) {
    check<double>(name, c);
    check<float>(name, c);
  }
}

}  // namespace
}  // namespace gatefold
