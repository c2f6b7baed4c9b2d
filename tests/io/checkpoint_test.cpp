#include "gatefold/io/checkpoint.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "gatefold/module/ops.hpp"
#include "gatefold/products/packed.hpp"
#include "tests/io/temporary_folder.hpp"

namespace gatefold::checkpoint_test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using test::message_of;
using ::testing::Not;

template <class T>
struct Part {
  Tensor<T, 2> weight;  // [R, D]
  explicit Part(Shape<2> shape) : weight(shape) {}
  static void visit(auto& v, auto&... self) { v("weight", self.weight...); }
  bool operator==(const Part&) const = default;
};
template <class T>
struct Model {
  Tensor<T, 1> bias{{3}};
  std::vector<Part<T>> parts{Part<T>({2, 3}), Part<T>({1, 4})};
  std::optional<Part<T>> head;
  static void visit(auto& v, auto&... self) {
    v("bias", self.bias...);
    v("parts", self.parts...);
    v("head", self.head...);
  }
  bool operator==(const Model&) const = default;
};
/// As a quantised storage would be: integers beside floats.
struct Quantised {
  Tensor<std::int8_t, 2> q{{2, 2}};
  Tensor<float, 1> scale{{2}};
  static void visit(auto& v, auto&... self) { v("q", self.q...), v("scale", self.scale...); }
  bool operator==(const Quantised&) const = default;
};
static_assert(Module<Model<float>> && Module<Quantised>);

/// Distinct values with all bits of the fraction in use.
template <class T>
Model<T> example(double seed = 0.1) {
  Model<T> model;
  double x = seed;
  for_each_param(
      [&](std::string_view, auto& t) {
        for (auto& value : t.flat()) value = static_cast<T>(x = -1.3 * x + 0.7);
      },
      model);
  return model;
}

TEST(Checkpoint, RoundTripIsExact) {
  test::TemporaryFolder folder;
  const auto model = example<float>();
  save(model, folder / "file");
  Model<float> back;
  load(folder / "file", back);
  EXPECT_EQ(back, model);

  const auto wide = example<double>();
  save(wide, folder / "wide");
  Model<double> wide_back;
  load(folder / "wide", wide_back);
  EXPECT_EQ(wide_back, wide);
}

TEST(Checkpoint, NamesAreThePathsBehindThePrefix) {
  test::TemporaryFolder folder;
  auto model = example<float>();
  model.head = Part<float>({1, 1});
  save(model, folder / "file", {.prefix = "model", .metadata = {{"licence", "CC0"}}});
  const CheckpointReader file(folder / "file");
  EXPECT_THAT(file.names(""),
              ElementsAre("model.bias", "model.head.weight", "model.parts.0.weight", "model.parts.1.weight"));
  EXPECT_THAT(file.names("model.parts"), ElementsAre("model.parts.0.weight", "model.parts.1.weight"));
  EXPECT_THAT(file.names("mod"), ElementsAre());
  EXPECT_EQ(file.metadata("licence"), "CC0");
  EXPECT_EQ(file.file().find("model.parts.1.weight")->shape, (std::vector<Index>{1, 4}));
  Model<float> back;
  back.head = Part<float>({1, 1});
  load(file, back, "model");
  EXPECT_EQ(back, model);
}

TEST(Checkpoint, Bfloat16IsTheRoundedModel) {
  test::TemporaryFolder folder;
  const auto model = example<float>();
  save(model, folder / "file", {.dtype = Dtype::bf16});
  EXPECT_EQ(CheckpointReader(folder / "file").file().find("bias")->dtype, Dtype::bf16);
  Model<float> back;
  load(folder / "file", back);
  EXPECT_NE(back, model);
  for_each_param(
      [](std::string_view path, const auto& came, const auto& exact) {
        for (Index i = 0; i < came.size(); ++i) {
          EXPECT_EQ(std::bit_cast<std::uint32_t>(came.data()[i]) & 0xffff, 0u);
          // Half a unit in the last of 8 bits.
          EXPECT_LE(std::abs(came.data()[i] - exact.data()[i]), std::abs(exact.data()[i]) * 0x1p-8f) << path;
        }
      },
      back, model);
  save(back, folder / "again", {.dtype = Dtype::bf16});
  EXPECT_EQ(test::read_text(folder / "again"), test::read_text(folder / "file"));
}

TEST(Checkpoint, LoadsIntoAModelOfAnotherScalar) {
  test::TemporaryFolder folder;
  const auto model = example<float>();
  save(model, folder / "file");
  Model<double> wide;
  load(folder / "file", wide);
  Model<float> back;
  convert(wide, back);
  EXPECT_EQ(back, model);
}

TEST(Checkpoint, IntegersStayIntegers) {
  test::TemporaryFolder folder;
  Quantised module;
  std::ranges::copy(std::vector<std::int8_t>{-128, -1, 0, 127}, module.q.flat().begin());
  module.scale.data()[0] = 0.5f;
  save(module, folder / "file", {.dtype = Dtype::bf16});
  Quantised back;
  load(folder / "file", back);
  EXPECT_EQ(back, module);
}

TEST(Checkpoint, OneFileResumesARun) {
  test::TemporaryFolder folder;
  const auto model = example<float>(), mean = example<float>(0.2), variance = example<float>(0.3);
  {
    CheckpointWriter file;
    file.add("model", model, Dtype::f32);
    file.add("optimizer.mean", mean);
    file.add("optimizer.variance", variance);
    file.add_metadata("step", std::int64_t{INT64_MIN});
    file.add_metadata("rng.state", std::uint64_t{UINT64_MAX});
    file.add_metadata("config", R"({"width": 3})");
    file.write(folder / "file");
  }
  const CheckpointReader file(folder / "file");
  Model<float> model_back, mean_back, variance_back;
  file.read("model", model_back);
  file.read("optimizer.mean", mean_back);
  file.read("optimizer.variance", variance_back);
  EXPECT_EQ(model_back, model);
  EXPECT_EQ(mean_back, mean);
  EXPECT_EQ(variance_back, variance);
  EXPECT_EQ(file.metadata_integer<std::int64_t>("step"), INT64_MIN);
  EXPECT_EQ(file.metadata_integer<std::uint64_t>("rng.state"), UINT64_MAX);
  EXPECT_EQ(file.metadata("config"), R"({"width": 3})");
  EXPECT_TRUE(file.has_metadata("config"));
  EXPECT_FALSE(file.has_metadata("absent"));
}

TEST(Checkpoint, MetadataThatIsNoSuchNumberIsRefused) {
  CheckpointWriter writer;
  writer.add_metadata("text", "12 monkeys");
  writer.add_metadata("large", std::uint64_t{256});
  writer.add_metadata("negative", -1);
  writer.add_metadata("empty", "");
  const auto bytes = writer.bytes();
  const CheckpointReader file{SafeTensors(bytes, "run")};
  EXPECT_THAT(message_of<CheckpointError>([&] { file.metadata_integer<int>("text"); }),
              HasSubstr("run: metadata 'text' came as '12 monkeys', wanted a whole number that fits I32"));
  EXPECT_THROW(file.metadata_integer<std::uint8_t>("large"), CheckpointError);
  EXPECT_THROW(file.metadata_integer<unsigned>("negative"), CheckpointError);
  EXPECT_THROW(file.metadata_integer<int>("empty"), CheckpointError);
  EXPECT_THAT(message_of<CheckpointError>([&] { file.metadata("absent"); }), HasSubstr("no key 'absent'"));
}

TEST(Checkpoint, FreeTensorsAreFetchedByName) {
  const auto model = example<float>();
  Tensor<std::int32_t, 2> tokens({1, 4});
  std::ranges::copy(std::vector{1, -7, 3, 9}, tokens.flat().begin());
  Tensor<float, 2> logits({2, 3});
  logits.data()[5] = 0.1f;
  CheckpointWriter writer;
  writer.add("model", model);
  writer.add_tensor("probe.input.tokens", tokens);
  writer.add_tensor("probe.output.logits", logits.view());
  writer.add_tensor("probe.output.last", logits.view().columns(2, 3));
  const auto bytes = writer.bytes();
  const CheckpointReader file{SafeTensors(bytes, "run")};
  EXPECT_THAT(file.names("probe.output"), ElementsAre("probe.output.last", "probe.output.logits"));
  EXPECT_EQ((file.read_tensor<std::int32_t, 2>("probe.input.tokens")), tokens);
  EXPECT_EQ((file.read_tensor<float, 2>("probe.output.logits")), logits);
  EXPECT_EQ((file.read_tensor<double, 2>("probe.output.last").data()[1]), double{0.1f});
  EXPECT_THAT(message_of<CheckpointError>([&] { file.read_tensor<float, 3>("probe.output.logits"); }),
              HasSubstr("run: tensor 'probe.output.logits' came as F32 [2, 3], wanted 3 axes of F32"));
  EXPECT_THAT(message_of<CheckpointError>([&] { file.read_tensor<float, 2>("probe.input.tokens"); }),
              HasSubstr("came as I32 [1, 4], wanted 2 axes of F32"));
  EXPECT_THAT(message_of<CheckpointError>([&] { file.read_tensor<float, 2>("absent"); }),
              HasSubstr("'absent' is missing"));
  Model<float> back;
  file.read("model", back);  // what stands beside the model is not unexpected
  EXPECT_EQ(back, model);
}

TEST(Checkpoint, OneReportNamesAllThatDoesNotFitAndTheModuleStays) {
  Tensor<float, 1> three({3}), four({4});
  Tensor<float, 2> matrix({3, 2});
  Tensor<std::int32_t, 2> integers({1, 4});
  CheckpointWriter writer;
  writer.add_tensor("model.bias", four);
  writer.add_tensor("model.parts.0.weight", matrix);
  writer.add_tensor("model.parts.1.weight", integers);
  writer.add_tensor("model.parts.2.weight", matrix);
  writer.add_tensor("model.tail", three);
  writer.add_tensor("modelling", three);
  const auto bytes = writer.bytes();
  const CheckpointReader file{SafeTensors(bytes, "run")};
  auto model = example<float>();
  model.head = Part<float>({5, 6});
  const auto before = model;
  const auto report = message_of<CheckpointError>([&] { file.read("model", model); });
  EXPECT_EQ(report,
            "run does not fit the module 'model':"
            "\n  misshapen: 'model.bias' came [4], wanted [3]"
            "\n  misshapen: 'model.parts.0.weight' came [3, 2], wanted [2, 3]"
            "\n  mistyped: 'model.parts.1.weight' came as I32, wanted F32"
            "\n  missing: 'model.head.weight' [5, 6]"
            "\n  unexpected: 'model.parts.2.weight' [3, 2]"
            "\n  unexpected: 'model.tail' [3]");
  EXPECT_EQ(model, before);
  EXPECT_THAT(message_of<CheckpointError>([&] { file.read("", model); }),
              AllOf(HasSubstr("missing: 'bias' [3]"), HasSubstr("unexpected: 'modelling' [3]"), Not(HasSubstr("''"))));
}

TEST(Checkpoint, OneWrongNumberLeavesTheModuleAsItWas) {
  test::TemporaryFolder folder;
  save(example<float>(0.2), folder / "file");
  auto content = test::read_text(folder / "file");
  test::write_text(folder / "file", content.substr(0, content.size() - 1));
  auto model = example<float>();
  EXPECT_THROW(load(folder / "file", model), FormatError);
  EXPECT_THROW(load(folder / "absent", model), std::system_error);
  EXPECT_EQ(model, example<float>());
}

/// Panels as a file has them, whatever is in them.
struct Panels {
  Tensor<std::uint8_t, 2> values;
  static void visit(auto& v, auto&... self) { v("values", self.values...); }
};

// A mask that keeps another number of weights would lead beyond the panel.
TEST(Checkpoint, AMaskThatIsBrokenIsRefusedByName) {
  using TwoOfFour = Packed<Nm<bf16, 2, 4>>;
  Tensor<float, 2> w({40, 64});
  for (std::size_t i = 0; i < w.flat().size(); ++i) w.flat()[i] = i % 4 < 2 ? 1 + static_cast<float>(i) : 0;
  const TwoOfFour packed(w);
  const auto file_of = [](const auto& module) {
    CheckpointWriter writer;
    writer.add("w", module);
    return writer.bytes();
  };
  const auto whole = file_of(packed);
  TwoOfFour read({40, 64});
  CheckpointReader{SafeTensors{std::span<const std::byte>(whole), "nm"}}.read("w", read);
  EXPECT_TRUE(std::ranges::equal(read.values.flat(), packed.values.flat()));

  Panels panels{Tensor<std::uint8_t, 2>(packed.values.shape())};
  std::ranges::copy(packed.values.flat(), panels.values.flat().begin());
  panels.values.flat().back() ^= 1;
  const auto broken = file_of(panels);
  EXPECT_THAT(
      message_of<CheckpointError>([&] { CheckpointReader{SafeTensors{std::span<const std::byte>(broken), "nm"}}.read("w", read); }),
      HasSubstr("broken: 'w.values': the mask of outputs 32.., inputs 0.. does not keep 2 of each 4"));
  EXPECT_TRUE(std::ranges::equal(read.values.flat(), packed.values.flat()));
}

TEST(Checkpoint, TheOldFileSurvivesAFailedSave) {
  test::TemporaryFolder folder;
  const auto old = example<float>();
  save(old, folder / "file");
  EXPECT_THROW(save(example<float>(0.2), folder / "file", {.dtype = Dtype::i8}), OptionError);
  EXPECT_THROW(save(example<float>(0.2), folder / "file", {.metadata = {{"k", "\xff"}}}), OptionError);

  rlimit limit{};
  ::getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit small{64, limit.rlim_max};  // as a full disk, in the middle of the header
  auto* const handler = ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  const auto message = message_of<std::system_error>([&] { save(example<float>(0.2), folder / "file"); });
  ::setrlimit(RLIMIT_FSIZE, &limit);
  ::signal(SIGXFSZ, handler);
  EXPECT_THAT(message, HasSubstr((folder / "file").string()));

  Model<float> back;
  load(folder / "file", back);
  EXPECT_EQ(back, old);
  EXPECT_EQ(folder.count(), 1);
}

TEST(Checkpoint, SavingTwiceGivesTheSameBytes) {
  test::TemporaryFolder folder;
  save(example<float>(), folder / "a", {.metadata = {{"x", "1"}, {"a", "2"}}});
  save(example<float>(), folder / "b", {.metadata = {{"a", "2"}, {"x", "1"}}});
  EXPECT_EQ(test::read_text(folder / "a"), test::read_text(folder / "b"));
}

TEST(Checkpoint, NamesThatClashAreRefused) {
  const auto model = example<float>();
  Tensor<float, 1> tensor({1});
  CheckpointWriter file;
  file.add_tensor("model.bias", tensor);
  EXPECT_THAT(message_of<OptionError>([&] { file.add("model", model); }), HasSubstr("'model.bias' is added twice"));
}

template <class M>
concept Borrowed = requires(CheckpointWriter file, M module) {
  file.add("m", static_cast<M>(module));
};
static_assert(Borrowed<Model<float>&> && Borrowed<const Model<float>&>);
static_assert(!Borrowed<Model<float>&&>, "a temporary would be gone before write() reads it");

}  // namespace
}  // namespace gatefold::checkpoint_test
