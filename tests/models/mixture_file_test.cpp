#include "gatefold/models/mixture_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/io/safetensors_writer.hpp"
#include "gatefold/module/ops.hpp"
#include "tests/io/temporary_folder.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold {
namespace {

namespace fs = std::filesystem;
using gatefold::test::message_of;
using gatefold::test::TemporaryFolder;
using gatefold::test::write_text;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

fs::path folder_of(const std::string& name) { return gatefold::test::test_data("mixtures") / name; }

/// The largest deviation, in terms of the largest value.
double deviation(std::span<const float> got, std::span<const float> wanted) {
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const double d = std::abs(double{got[i]} - double{wanted[i]});
    if (!(d <= worst)) worst = d;
    largest = std::max(largest, std::abs(double{wanted[i]}));
  }
  return largest > 0 ? worst / largest : worst;
}

/// What transformers made of some rows (tests/data/mixtures/make_mixtures.py).
struct Golden {
  MixtureFile file;
  CheckpointReader expected;
  Tensor<float, 2> x, y, dy, dx;

  explicit Golden(const std::string& name)
      : file(open_mixture_file(folder_of(name))),
        expected(folder_of(name) / "expected.safetensors"),
        x(read("x")),
        y(read("y")),
        dy(read("dy")),
        dx(read("dx")) {}

  /// How far y is off, of the block that the file's options make.
  double output_deviation() const {
    const auto mixture = load_mixture(file, 1);
    Tensor<float, 2> got(y.shape());
    Context ctx;
    infer(mixture, x.view(), got.view(), ctx);
    return deviation(got.flat(), y.flat());
  }

 private:
  Tensor<float, 2> read(const char* name) const { return expected.read_tensor<float, 2>(name); }
};

class PublishedMixture : public ::testing::TestWithParam<const char*> {};

// Both sides compute in float from the same weights (the reference mostly in double): some hundred roundings of 6e-8.
TEST_P(PublishedMixture, IsThatOfTransformers) {
  const Golden golden(GetParam());
  EXPECT_THAT(golden.file.layers, ElementsAre(1));
  const auto mixture = load_mixture(golden.file, 1);
  Tensor<float, 2> y(golden.y.shape()), dx(golden.dx.shape());
  auto grad = zeros_like(mixture);
  Context ctx;
  const auto saved = mixture.forward(golden.x, y, ctx);
  mixture.backward(saved, golden.dy, dx, grad, ctx);
  EXPECT_LE(deviation(y.flat(), golden.y.flat()), 1e-5);
  EXPECT_LE(deviation(dx.flat(), golden.dx.flat()), 1e-5);
  const auto gradients = folder_of(GetParam()) / "gradients.safetensors";
  if (!fs::exists(gradients)) return;  // of packed weights
  auto file = golden.file;             // under the names of the weights, and so read like these
  file.tensors = ShardedSafeTensors::open(gradients);
  const auto wanted_grad = load_mixture(file, 1);
  Index learnt = 0;
  for_each_param(
      [&](std::string_view path, const auto& got, const auto& wanted) {
        EXPECT_LE(deviation(got.flat(), wanted.flat()), 1e-4) << path;
        learnt += std::ranges::any_of(wanted.flat(), [](float v) { return v != 0; });
      },
      grad, wanted_grad);
  EXPECT_GE(learnt, 10) << "parameters with a gradient";
}

INSTANTIATE_TEST_SUITE_P(Of, PublishedMixture,
                         ::testing::Values("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v2",
                                           "deepseek_v2_lite", "deepseek_v3", "deepseek_v3_fp8", "granitemoe",
                                           "granitemoeshared", "gpt_oss", "gpt_oss_mxfp4", "lfm2_moe", "llama4",
                                           "llama4_two", "phimoe"),
                         [](const auto& name) { return std::string(name.param); });

/// An option of the router that decides on what a family computes.
struct Choice {
  const char* name;
  void (*change)(TopKRouterOptions&);
  std::vector<const char*> families;
};

// The goldens see each of them: whatever is set otherwise shows, far beyond rounding.
TEST(PublishedMixtures, NoneWouldPassWithAnotherRule) {
  const Choice choices[] = {
      {"fewer picks",
       [](auto& o) { --o.num_selected; },
       {"qwen3_moe", "olmoe", "deepseek_v2", "deepseek_v3", "lfm2_moe"}},
      {"more picks", [](auto& o) { ++o.num_selected; }, {"mixtral", "qwen2_moe", "granitemoe", "gpt_oss", "llama4"}},
      {"not renormalised",
       [](auto& o) { o.renormalise = Renormalise::none, o.epsilon = 0; },
       {"mixtral", "qwen3_moe", "deepseek_v3", "granitemoe", "granitemoeshared", "gpt_oss", "gpt_oss_mxfp4",
        "lfm2_moe"}},
      {"renormalised",
       [](auto& o) { o.renormalise = Renormalise::before_dropping; },
       {"qwen2_moe", "olmoe", "deepseek_v2", "deepseek_v2_lite", "llama4_two"}},
      {"sigmoid", [](auto& o) { o.score = RouterScore::sigmoid; }, {"mixtral", "qwen2_moe", "qwen3_moe", "olmoe"}},
      {"softmax", [](auto& o) { o.score = RouterScore::softmax; }, {"deepseek_v3", "lfm2_moe", "llama4"}},
      {"unscaled", [](auto& o) { o.scale = 1; }, {"deepseek_v2", "deepseek_v3", "lfm2_moe"}},
      {"without groups", [](auto& o) { o.groups = {}; }, {"deepseek_v2", "deepseek_v3"}},
      {"the other groups",
       [](auto& o) { o.groups.score = o.groups.score == GroupScore::best ? GroupScore::two_best : GroupScore::best; },
       {"deepseek_v2", "deepseek_v3"}},
  };
  for (const auto& choice : choices)
    for (const auto* family : choice.families) {
      Golden golden(family);
      choice.change(std::get<TopKRouterOptions>(golden.file.config.options.router));
      EXPECT_GE(golden.output_deviation(), 1e-3) << family << ", " << choice.name;
    }
}

TEST(PublishedMixtures, NoneWouldPassWithOtherParts) {
  for (const auto* family : {"llama4", "llama4_two", "deepseek_v3"}) {
    Golden golden(family);
    auto& weighed = golden.file.config.options.weighed;
    weighed = weighed == Weighed::inputs ? Weighed::outputs : Weighed::inputs;
    EXPECT_GE(golden.output_deviation(), 1e-3) << family;
  }
  for (const auto* family : {"gpt_oss", "gpt_oss_mxfp4", "mixtral"}) {
    Golden golden(family);
    auto& activation = golden.file.config.options.activation;
    activation = activation == ExpertActivation::silu ? ExpertActivation::gpt_oss : ExpertActivation::silu;
    EXPECT_GE(golden.output_deviation(), 1e-3) << family;
  }
  Golden phi("phimoe");
  auto& mixer = std::get<SparseMixerRouterOptions>(phi.file.config.options.router);
  mixer.tolerance = .02;
  EXPECT_GE(phi.output_deviation(), 1e-3);
  phi.file.config.options.router =
      TopKRouterOptions{.width = mixer.width, .num_experts = mixer.num_experts, .num_selected = 2};
  EXPECT_GE(phi.output_deviation(), 1e-3);
}

// A selection bias is no option of the reading but a tensor: without it others are chosen.
TEST(PublishedMixtures, SelectionBiasesAreRead) {
  for (const auto* family : {"deepseek_v3", "lfm2_moe"}) {
    const Golden golden(family);
    auto mixture = load_mixture(golden.file, 1);
    for_each_param(
        [](std::string_view path, auto& t) {
          if (path.ends_with("selection_bias")) std::ranges::fill(t.flat(), 0.0f);
        },
        mixture);
    Tensor<float, 2> y(golden.y.shape());
    Context ctx;
    infer(mixture, golden.x.view(), y.view(), ctx);
    EXPECT_GE(deviation(y.flat(), golden.y.flat()), 1e-3) << family;
  }
}

TEST(PublishedMixtures, GoldensReachTheLimitsOfGptOss) {
  const Golden golden("gpt_oss");
  const auto mixture = load_mixture(golden.file, 1);
  Index beyond = 0;
  const auto& silu_or_clamped = std::get<1>(mixture.layer);
  const auto& routed = std::get<0>(std::get<0>(silu_or_clamped.layer).layer);
  for (const auto& expert : routed.experts)
    for (Index r = 0; r < golden.x.shape()[0]; ++r)
      for (Index h = 0; h < expert.up.out(); ++h) {
        float up = expert.up.bias.data()[h];
        for (Index d = 0; d < expert.up.in(); ++d) up += golden.x.view()(r, d) * expert.up.weight.view()(h, d);
        beyond += std::abs(up) > 7;
      }
  EXPECT_GT(beyond, 10);
}

TEST(MixtureFile, PacksWhileLoading) {
  const Golden golden("gpt_oss_mxfp4");
  const auto packed = load_mixture<Packed<float>>(golden.file, 1);
  Tensor<float, 2> y(golden.y.shape());
  Context ctx;
  infer(packed, golden.x.view(), y.view(), ctx);
  EXPECT_LE(deviation(y.flat(), golden.y.flat()), 1e-5);
}

/// Copies of a golden with some tensors changed.
class MixtureFileOf : public ::testing::Test {
 protected:
  using Entry = SafeTensors::Entry;
  static constexpr const char* kLayer = "model.layers.1.";

  /// change(entry) says whether the tensor stays; more(writer) may add to them.
  template <class Change, class More>
  void copy(const std::string& name, Change&& change, More&& more) const {
    const auto file = ShardedSafeTensors::open(folder_of(name) / "model.safetensors");
    SafeTensorsWriter writer;
    for (const auto& [each, tensor] : file.tensors()) {
      Entry entry = *tensor.entry;
      if (change(entry)) writer.add_bytes(entry.name, entry.dtype, entry.shape, entry.bytes);
    }
    more(writer);
    writer.write(folder_ / "model.safetensors");
    fs::copy_file(folder_of(name) / "config.json", folder_ / "config.json", fs::copy_options::overwrite_existing);
  }
  template <class Change>
  void copy(const std::string& name, Change&& change) const {
    copy(name, change, [](auto&) {});
  }
  template <class E>
  std::string refusal(Index layer = 1) const {
    return message_of<E>([&] { (void)load_mixture(path(), layer); });
  }
  fs::path path() const { return (folder_ / "config.json").parent_path(); }
  const TemporaryFolder folder_;
};

TEST_F(MixtureFileOf, AnyModelIsFoundBehindItsPrefix) {
  const std::string prefix = "language_model.model.layers.30.";
  copy(
      "llama4",
      [&](Entry& e) {
        e.name = prefix + e.name.substr(std::string(kLayer).size());
        return true;
      },
      [](SafeTensorsWriter& writer) {
        writer.add_bytes("audio.layers.30.feed_forward.up.weight", Dtype::u8, {0}, {});
        writer.add_bytes("vision_model.layers.2.mlp.fc1.weight", Dtype::u8, {0}, {});
        writer.add_bytes("language_model.model.layers.30.self_attn.q_proj.weight", Dtype::u8, {0}, {});
      });
  const auto file = open_mixture_file(path());
  EXPECT_THAT(file.layers, ElementsAre(30));
  const auto mixture = load_mixture(file, 30);
  const Golden golden("llama4");
  Tensor<float, 2> y(golden.y.shape());
  Context ctx;
  infer(mixture, golden.x.view(), y.view(), ctx);
  EXPECT_LE(deviation(y.flat(), golden.y.flat()), 1e-5);
  EXPECT_THAT(refusal<FormatError>(3), AllOf(HasSubstr("has no tensor of layer 3"), HasSubstr("expected one of 30")));
}

TEST_F(MixtureFileOf, OneFileWithAConfigurationBesideItIsEnough) {
  copy("mixtral", [](Entry&) { return true; });
  EXPECT_THAT(open_mixture_file(folder_ / "model.safetensors").layers, ElementsAre(1));
  fs::rename(folder_ / "model.safetensors", folder_ / "model-00003-of-00019.safetensors");
  EXPECT_THAT(open_mixture_file(folder_ / "model-00003-of-00019.safetensors").layers, ElementsAre(1));
  write_text(folder_ / "model.safetensors.index.json", R"({"weight_map": {"model.layers.1.block_sparse_moe.gate.weight":
      "model-00003-of-00019.safetensors"}})");
  EXPECT_THAT(open_mixture_file(path()).layers, ElementsAre(1));
  fs::remove(folder_ / "config.json");
  EXPECT_THAT(message_of<std::exception>([&] { (void)open_mixture_file(path()); }), HasSubstr("config.json"));
}

TEST_F(MixtureFileOf, AllTensorsThatDoNotFitAreNamedAtOnce) {
  const std::string at = std::string(kLayer) + "mlp.";
  copy(
      "deepseek_v3",
      [&](Entry& e) {
        if (e.name == at + "experts.3.up_proj.weight") std::swap(e.shape[0], e.shape[1]);
        if (e.name == at + "gate.weight") e.dtype = Dtype::i32;
        return e.name != at + "gate.e_score_correction_bias" && e.name != at + "experts.7.down_proj.weight";
      },
      [&](SafeTensorsWriter& writer) {
        writer.add_bytes(at + "experts.8.down_proj.weight", Dtype::f32, {0}, {});
        writer.add_bytes(std::string(kLayer) + "self_attn.o_proj.weight", Dtype::f32, {0}, {});
      });
  const auto why = refusal<CheckpointError>();
  EXPECT_THAT(why, HasSubstr("missing: 'model.layers.1.mlp.gate.e_score_correction_bias' [8]"));
  EXPECT_THAT(why, HasSubstr("missing: 'model.layers.1.mlp.experts.7.down_proj.weight' [8, 4]"));
  EXPECT_THAT(why, HasSubstr("misshapen: 'model.layers.1.mlp.experts.3.up_proj.weight' came [8, 4], wanted [4, 8]"));
  EXPECT_THAT(why, HasSubstr("mistyped: 'model.layers.1.mlp.gate.weight' came as I32, wanted F32"));
  EXPECT_THAT(why, HasSubstr("unexpected: 'model.layers.1.mlp.experts.8.down_proj.weight' [0]"));
  EXPECT_THAT(why, Not(HasSubstr("self_attn"))) << "no part of the block";
}

TEST_F(MixtureFileOf, TensorsOfAllExpertsAreNamedOnce) {
  copy("granitemoeshared", [](Entry& e) {
    if (e.name.ends_with("moe.input_linear.weight")) e.shape = {6, 10, 8};
    return !e.name.ends_with("output_linear.weight");
  });
  const auto why = refusal<CheckpointError>();
  EXPECT_THAT(why, HasSubstr("missing: 'model.layers.1.block_sparse_moe.output_linear.weight' [5, 8, 6]"));
  EXPECT_THAT(why, HasSubstr("missing: 'model.layers.1.shared_mlp.output_linear.weight' [8, 9]"));
  EXPECT_THAT(why, HasSubstr("came [6, 10, 8], wanted [5, 12, 8]"));
  EXPECT_EQ(std::ranges::count(why, '\n'), 4) << why;
}

TEST_F(MixtureFileOf, PackedTensorsAreHeldToTheirShapesAndTypes) {
  copy("gpt_oss_mxfp4", [](Entry& e) {
    if (e.name.ends_with("down_proj_scales")) e.shape = {3, 32, 2};
    if (e.name.ends_with("gate_up_proj_blocks")) e.dtype = Dtype::i8;
    return !e.name.ends_with("down_proj_bias");
  });
  const auto why = refusal<CheckpointError>();
  EXPECT_THAT(why, HasSubstr("down_proj_scales' came [3, 32, 2], wanted [3, 64, 1]"));
  EXPECT_THAT(why, HasSubstr("gate_up_proj_blocks' came as I8, wanted U8"));
  EXPECT_THAT(why, HasSubstr("missing: 'model.layers.1.mlp.experts.down_proj_bias' [3, 64]"));
}

TEST_F(MixtureFileOf, EightBitFloatsNeedTheirScales) {
  copy("deepseek_v3_fp8", [](Entry& e) {
    if (e.name.ends_with("experts.2.up_proj.weight_scale_inv")) e.shape = {4, 1};
    return !e.name.ends_with("experts.1.gate_proj.weight_scale_inv");
  });
  const auto why = refusal<CheckpointError>();
  EXPECT_THAT(why, HasSubstr("experts.1.gate_proj.weight' came as F8_E4M3, wanted F32, F16, BF16, F64, or F8_E4M3"));
  EXPECT_THAT(why, HasSubstr("experts.2.up_proj.weight_scale_inv' came [4, 1], wanted [2, 2]"));
}

TEST_F(MixtureFileOf, ScalesThatAreNoNumbersAreRefused) {
  std::vector<std::byte> bytes;
  copy("gpt_oss_mxfp4", [&](Entry& e) {
    if (!e.name.ends_with("down_proj_scales")) return true;
    bytes.assign(e.bytes.begin(), e.bytes.end());
    bytes[70] = std::byte{255};
    e.bytes = bytes;
    return true;
  });
  EXPECT_THAT(refusal<FormatError>(), AllOf(HasSubstr("down_proj_blocks"), HasSubstr("NaN")));
}

TEST_F(MixtureFileOf, AFileIsNotTrustedWithTheSizeOfAModel) {
  copy("mixtral", [](Entry&) { return true; });
  auto config = read_json_object(folder_ / "config.json");
  config["num_local_experts"] = 1 << 18;
  config["intermediate_size"] = 1 << 20;
  write_text(folder_ / "config.json", config.dump());
  EXPECT_THAT(refusal<FormatError>(), HasSubstr("do they belong together?"));
}

}  // namespace
}  // namespace gatefold
