#include "run_drawing.hpp"

#include <gmock/gmock.h>

#include "gatefold/core/tensor.hpp"
#include "gatefold/io/safetensors_writer.hpp"
#include "tests/io/temporary_folder.hpp"

namespace run_drawing {
namespace {

using gatefold::test::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class RunDrawing : public ::testing::Test {
 protected:
  /// A run of which `zeros` of the four numbers of a block are 0; its tests end with 0.5 and `top1`.
  std::string run(const std::string& name, int zeros, const std::string& top1 = "0.7") {
    const auto at = folder_ / name;
    std::filesystem::create_directories(at);
    gatefold::test::write_text(at / "summary.json", R"({"tests": [{"title": "a", "n": 4, "top1": 0.5},
                                                                   {"title": "b", "n": 4, "top1": )" +
                                                           top1 + "}]}");
    gatefold::Tensor<float, 2> w({2, 2}), none({2, 2});
    gatefold::Tensor<float, 1> bias({2});
    for (float& v : w.flat()) v = 1;
    for (int i = 0; i < zeros; ++i) w.flat()[static_cast<std::size_t>(i)] = i % 2 ? -0.0f : 0.0f;
    for (float& v : none.flat()) v = 0;
    for (float& v : bias.flat()) v = 0;
    gatefold::SafeTensorsWriter file;
    file.add("model.trunks.0.blocks.2.ffn.inner.experts.0.up.weight", w.view(), gatefold::Dtype::bf16);
    file.add("model.trunks.0.blocks.10.attention.inner.qkv.weight", w.view());
    file.add("model.trunks.0.blocks.10.attention.inner.qkv.bias", bias.view());  // no matrix
    file.add("model.word_embed.table", none.view());                             // in no block
    file.write(at / "model.safetensors");
    return at.string();
  }
  const gatefold::test::TemporaryFolder folder_;
};

TEST_F(RunDrawing, BlocksAreTakenFromTheNamesOfEveryMaker) {
  EXPECT_EQ(block_of("model.trunks.0.blocks.3.ffn.inner.experts.1.up.weight"), "model.trunks.0.blocks.3");
  EXPECT_EQ(block_of("visual.transformer.resblocks.11.mlp.c_fc.weight"), "visual.transformer.resblocks.11");
  EXPECT_EQ(block_of("text_model.encoder.layers.0.mlp.fc1.weight"), "text_model.encoder.layers.0");
  for (const char* none : {"model.word_embed.table", "blocks.", "blocks.x.y", "blocks..weight", "blocks.3"})
    EXPECT_EQ(block_of(none), "") << none;
}

TEST_F(RunDrawing, MeasuresBytesAccuracyAndZerosOfEachBlock) {
  const auto first = run("a", 2), second = run("b", 1, "0.9");
  const auto drawn = measured(gatefold::read_group("2:4=" + first + "," + second));
  EXPECT_EQ(drawn.name, "2:4");
  ASSERT_EQ(drawn.runs.size(), 2u);
  EXPECT_DOUBLE_EQ(drawn.runs[0].accuracy, 60);
  EXPECT_DOUBLE_EQ(drawn.runs[1].accuracy, 70);
  EXPECT_DOUBLE_EQ(drawn.mean.accuracy, 65);
  EXPECT_EQ(drawn.mean.bytes, static_cast<double>(std::filesystem::file_size(first + "/model.safetensors")));
  std::vector<std::string> blocks;
  for (const auto& [block, of] : drawn.blocks) {
    blocks.push_back(block);
    EXPECT_EQ(of.zeros, 3);
    EXPECT_EQ(of.numbers, 8);
  }
  EXPECT_THAT(blocks, ElementsAre("model.trunks.0.blocks.2", "model.trunks.0.blocks.10"));
}

TEST_F(RunDrawing, ShowsEachRunAndTheShareOfZeros) {
  const auto svg = drawing_of({measured(gatefold::read_group("<dense>=" + run("a", 0))),
                               measured(gatefold::read_group("2:4=" + run("b", 2) + "," + run("c", 2, "0.9")))});
  const auto count = [&](const std::string& piece) {
    int n = 0;
    for (auto at = svg.find(piece); at != svg.npos; at = svg.find(piece, at + 1)) ++n;
    return n;
  };
  EXPECT_EQ(count("r=\"2\""), 3);  // the runs
  EXPECT_EQ(count("r=\"4\""), 2);  // their means
  EXPECT_EQ(count("2:4 model.trunks.0.blocks.2: 50.0 %</title>"), 1);
  EXPECT_EQ(count("&lt;dense&gt; model.trunks.0.blocks.10: 0.0 %</title>"), 1);
  EXPECT_THAT(svg, HasSubstr("2  2:4: "));
  EXPECT_THAT(svg, HasSubstr(" MB, 65.0 %</text>"));
  EXPECT_THAT(svg, Not(HasSubstr("<dense>")));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  for (const std::string tag : {"text", "circle", "rect", "title", "svg"})
    EXPECT_EQ(count("<" + tag + " ") + count("<" + tag + ">"), count("</" + tag + ">") + (tag == "rect")) << tag;
}

TEST_F(RunDrawing, RefusesRunsThatSayNothing) {
  const auto at = run("a", 0);
  const auto refusal = [&] {
    return message_of<gatefold::FormatError>([&] { (void)measured(gatefold::read_group("x=" + at)); });
  };
  EXPECT_EQ(refusal(), "nothing thrown");
  for (const auto& [summary, why] : {std::pair(R"({"tests": []})", "has no tests"),
                                     {"{}", "has no tests"},
                                     {"[]", "is no summary"},
                                     {R"({"tests": [{"top1": null}]})", "no «top1»"},
                                     {R"({"tests": [3]})", "no «top1»"}}) {
    gatefold::test::write_text(at + "/summary.json", summary);
    EXPECT_THAT(refusal(), HasSubstr(why)) << summary;
  }
  run("a", 0);
  auto damaged = gatefold::test::read_text(at + "/model.safetensors");
  damaged.back() ^= 1;
  gatefold::test::write_text(at + "/model.safetensors", damaged);
  EXPECT_THAT(refusal(), HasSubstr("checksum"));
  EXPECT_THROW((void)gatefold::read_group("no group"), std::runtime_error);
  EXPECT_THROW((void)gatefold::read_group("x="), std::runtime_error);
}

}  // namespace
}  // namespace run_drawing
