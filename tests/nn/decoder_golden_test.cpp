// Attention as transformers has it: tests/data/make_decoder_goldens.py.
#include <fstream>
#include <map>
#include <sstream>

#include "gatefold/nn/attention.hpp"
#include "tests/support/layer_contract.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold {
namespace {

const std::vector<std::string> kOrder{"x",
                                      "dy",
                                      "q_proj.weight",
                                      "q_proj.bias",
                                      "k_proj.weight",
                                      "k_proj.bias",
                                      "v_proj.weight",
                                      "v_proj.bias",
                                      "o_proj.weight",
                                      "o_proj.bias",
                                      "q_norm.weight",
                                      "k_norm.weight",
                                      "sinks"};

/// Number i of what bears that name, the script's drawn.
double drawn(const std::string& name, Index i) {
  const auto at = static_cast<std::uint64_t>(std::ranges::find(kOrder, name) - kOrder.begin());
  const auto hash = ((static_cast<std::uint64_t>(i) * 7919 + at * 104729 + 12345) * 2654435761u) & 0xffffffff;
  const double value = static_cast<double>(hash >> 12) / 0x1p19 - 1;
  return name.find("norm") == std::string::npos ? value : 1 + value / 2;
}

struct Case {
  Index tokens = 0, at_once = 0, width = 0;
  std::map<std::string, std::vector<double>> golden;
};

std::map<std::string, Case> read_cases() {
  std::map<std::string, Case> all;
  std::ifstream file(test::test_data("decoder_goldens.txt"));
  Case* now = nullptr;
  for (std::string line; std::getline(file, line);) {
    std::istringstream in(line);
    std::string name;
    in >> name;
    if (name == "#") continue;
    if (name == "case") {
      in >> name;
      now = &all[name];
      in >> now->tokens >> now->at_once >> now->width;
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
std::map<std::string, typename Attention<T>::Options> options() {
  using O = typename Attention<T>::Options;
  const O llama{.width = 8,
                .num_heads = 4,
                .mask = kernels::AttentionMask::causal,
                .num_key_heads = 2,
                .head_width = 4,
                .bias = Bias::none,
                .rotary = {.width = 4, .base = 30}};
  std::map<std::string, O> all{{"llama", llama}};
  auto& llama3 = all["llama3_scaling"] = llama;
  llama3.rotary.scaling = Llama3Scaling{.factor = 8, .original_length = 40};
  auto& linear = all["linear_scaling"] = llama;
  linear.rotary.scaling = LinearScaling{.factor = 3};
  auto& qwen3 = all["qwen3"] = llama;
  qwen3.rotary.base = 100;
  qwen3.norm = QueryKeyNorm::head;
  auto& granite = all["granite"] = llama;
  granite.num_heads = 2, granite.num_key_heads = 1, granite.scale = 0.2;
  auto& qwen2 = all["qwen2"] = granite;
  qwen2.rotary.base = 100, qwen2.scale = 0, qwen2.bias = Bias::zero;
  auto& yarn = all["yarn_whole"] = granite;
  yarn.scale = 0, yarn.head_width = 8;
  yarn.rotary = {.width = 8, .base = 50, .scaling = YarnScaling{.factor = 4, .original_length = 32, .fast = 4}};
  auto& gpt_oss = all["gpt_oss"] = yarn;
  gpt_oss.rotary.scaling = YarnScaling{.factor = 4, .original_length = 32, .fast = 4, .ends = YarnScaling::Ends::exact};
  gpt_oss.window = 4, gpt_oss.bias = Bias::zero, gpt_oss.sinks = Sinks::learnt;
  return all;
}

/// fn(name, values) for each parameter by transformers' names; those of q, k and v are parts of one here.
template <class T, class Fn>
void for_each_golden(Attention<T>& layer, Fn&& fn) {
  const auto& o = layer.options;
  const auto rows = [&](auto& t, Index columns, const std::string& kind) {
    T* at = t.data();
    for (const auto& [name, heads] : {std::pair("q", o.num_heads), {"k", o.num_key_heads}, {"v", o.num_key_heads}}) {
      const auto count = static_cast<std::size_t>(heads * o.head_width * columns);
      fn(std::string(name) + "_proj." + kind, std::span(at, count));
      at += count;
    }
  };
  rows(layer.qkv.weight, o.width, "weight");
  if (layer.qkv.bias.size()) rows(layer.qkv.bias, 1, "bias");
  fn("o_proj.weight", layer.out.weight.flat());
  if (layer.out.bias.size()) fn("o_proj.bias", layer.out.bias.flat());
  if (layer.query_norm) fn("q_norm.weight", layer.query_norm->gain.flat());
  if (layer.key_norm) fn("k_norm.weight", layer.key_norm->gain.flat());
  if (layer.sink.size()) fn("sinks", layer.sink.flat());
}

template <class T>
void check(const std::string& name, const Case& c, const typename Attention<T>::Options& o) {
  SCOPED_TRACE(name);
  Attention<T> layer(o);
  for_each_golden(layer, [&](const std::string& path, std::span<T> values) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = T(drawn(path, static_cast<Index>(i)));
    // Qwen2's output has no bias.
    if (path == "o_proj.bias" && !c.golden.contains(path)) std::ranges::fill(values, T(0));
  });
  test::Matrix<T> x({c.tokens, c.width}), dy(x.shape()), y(x.shape());
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = T(drawn("x", i)), dy.data()[i] = T(drawn("dy", i));
  const auto expect_golden = [&](const std::string& what, std::span<const T> came, double tolerance) {
    const auto& wanted = c.golden.at(what);
    ASSERT_EQ(came.size(), wanted.size()) << what;
    for (std::size_t i = 0; i < wanted.size(); ++i) ASSERT_NEAR(came[i], wanted[i], tolerance) << what << " " << i;
  };
  Context ctx;
  auto cache = make_cache(layer, {.capacity = c.tokens});
  decode(layer, x.view().rows(0, c.at_once), y.view().rows(0, c.at_once), cache, ctx);
  for (Index i = c.at_once; i < c.tokens; ++i)
    decode(layer, x.view().rows(i, i + 1), y.view().rows(i, i + 1), cache, ctx);
  expect_golden("y", y.flat(), 1e-5);
  const auto pass = test::run_pass(layer, x, dy, ctx);
  expect_golden("y", pass.y.flat(), 1e-5);
  expect_golden("dx", pass.dx.flat(), 1e-4);
  auto grad = pass.grad;
  for_each_golden(grad, [&](const std::string& path, std::span<T> values) {
    if (c.golden.contains(path)) expect_golden(path, values, 1e-4);
  });
}

TEST(DecoderGolden, AttentionOfEightDecoders) {
  const auto cases = read_cases();
  const auto in_double = options<double>();
  const auto in_float = options<float>();
  ASSERT_EQ(cases.size(), in_double.size());
  for (const auto& [name, c] : cases) {
    check<double>(name, c, in_double.at(name));
    check<float>(name, c, in_float.at(name));
  }
}

}  // namespace
}  // namespace gatefold
