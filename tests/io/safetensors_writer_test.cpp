#include "gatefold/io/safetensors_writer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/core/tensor.hpp"
#include "tests/io/temporary_folder.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold::safetensors_writer_test {
namespace {

using ::testing::HasSubstr;
using test::message_of;

const std::filesystem::path kData = test::test_data("");

std::string text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Tensor<float, 2> counting(Shape<2> shape) {
  Tensor<float, 2> tensor(shape);
  for (Index i = 0; i < tensor.size(); ++i) tensor.data()[i] = static_cast<float>(i) / 4 - 1;
  return tensor;
}

TEST(SafeTensorsWriter, WritesTheBytesOfTheReference) {
  for (const auto* const name : {"safetensors_mixed", "safetensors_matrix", "safetensors_empty"}) {
    const auto path = kData / (std::string(name) + "_checksum.safetensors");
    const SafeTensors golden{MappedFile(path)};
    SafeTensorsWriter writer;
    for (auto entry = golden.entries().rbegin(); entry != golden.entries().rend(); ++entry)
      writer.add_bytes(entry->name, entry->dtype, entry->shape, entry->bytes);
    for (const auto& [key, value] : golden.metadata()) writer.add_metadata(key, value);
    EXPECT_EQ(text(writer.bytes()), test::read_text(path)) << name;
  }
}

TEST(SafeTensorsWriter, ViewsWriteTheBytesOfTheReference) {
  const auto a = counting({2, 3});
  Tensor<float, 2> b({3, 2});  // the transpose of a
  for (Index i = 0; i < 6; ++i) b.view()(i % 3, i / 3) = a.data()[i];
  SafeTensorsWriter writer;
  writer.add("b.c", b.view());
  writer.add("a", a.view());
  EXPECT_EQ(text(writer.bytes()), test::read_text(kData / "safetensors_matrix_checksum.safetensors"));
}

TEST(SafeTensorsWriter, TheOrderOfAddingDoesNotShow) {
  const auto a = counting({2, 3}), b = counting({5, 1});
  SafeTensorsWriter forth, back;
  forth.add("a", a.view()), forth.add("b", b.view(), Dtype::bf16);
  forth.add_metadata("k", "1"), forth.add_metadata("j", "2");
  back.add_metadata("j", "2"), back.add_metadata("k", "1");
  back.add("b", b.view(), Dtype::bf16), back.add("a", a.view());
  EXPECT_EQ(forth.bytes(), back.bytes());
}

TEST(SafeTensorsWriter, TheFileHoldsTheBytesAndEveryTensorIsAligned) {
  test::TemporaryFolder folder;
  const auto a = counting({3, 1});
  const std::vector<std::uint8_t> odd = {1, 2, 3};
  const std::vector<double> doubles = {1, 2};
  SafeTensorsWriter writer;
  writer.add("a.odd", View<const std::uint8_t, 1>(odd.data(), {3}));
  writer.add("b", a.view());
  writer.add("c", View<const double, 1>(doubles.data(), {2}));
  writer.write(folder / "file");
  EXPECT_EQ(test::read_text(folder / "file"), text(writer.bytes()));
  const SafeTensors file{MappedFile(folder / "file")};
  for (const auto& entry : file.entries())
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(entry.bytes.data()) % size_bytes(entry.dtype), 0u) << entry.name;
}

TEST(SafeTensorsWriter, StridedViewsAreWrittenRowByRow) {
  const auto wide = counting({4, 7});
  const auto block = wide.view().rows(1, 3).columns(2, 5);
  SafeTensorsWriter writer;
  writer.add("as_is", block);
  writer.add("rounded", block, Dtype::bf16);
  const auto bytes = writer.bytes();
  const SafeTensors file(bytes);
  std::vector<float> as_is(6), rounded(6);
  decode<float>(Dtype::f32, file.find("as_is")->bytes, as_is);
  decode<float>(Dtype::bf16, file.find("rounded")->bytes, rounded);
  EXPECT_EQ(as_is, (std::vector{1.25f, 1.5f, 1.75f, 3.f, 3.25f, 3.5f}));
  EXPECT_EQ(rounded, as_is);  // quarters below 4 have few enough bits
}

TEST(SafeTensorsWriter, ConvertsTensorsLongerThanItsBuffer) {
  const auto tensor = counting({3, 10001});
  SafeTensorsWriter writer;
  writer.add("x", tensor.view(), Dtype::f64);
  const auto bytes = writer.bytes();
  std::vector<float> back(30003);
  decode<float>(Dtype::f64, SafeTensors(bytes).find("x")->bytes, back);
  EXPECT_TRUE(std::ranges::equal(back, tensor.flat()));
}

TEST(SafeTensorsWriter, ReadsTheViewWhenItWrites) {
  auto tensor = counting({1, 2});
  SafeTensorsWriter writer;
  writer.add("x", tensor.view());
  tensor.data()[0] = 42;
  const auto bytes = writer.bytes();
  std::vector<float> back(2);
  decode<float>(Dtype::f32, SafeTensors(bytes).find("x")->bytes, back);
  EXPECT_EQ(back[0], 42);
}

TEST(SafeTensorsWriter, RefusesWhatNoReaderWouldTake) {
  const auto a = counting({2, 3});
  SafeTensorsWriter writer;
  writer.add("a", a.view());
  EXPECT_THAT(message_of<OptionError>([&] { writer.add("a", a.view()); }), HasSubstr("'a' is added twice"));
  EXPECT_THAT(message_of<OptionError>([&] { writer.add("\xff", a.view()); }), HasSubstr("not UTF-8"));
  EXPECT_THAT(message_of<OptionError>([&] { writer.add("__metadata__", a.view()); }), HasSubstr("'__metadata__'"));
  EXPECT_THAT(message_of<OptionError>([&] { writer.add(std::string("a\0b", 3), a.view()); }), HasSubstr("'a\\x00b'"));
  EXPECT_THAT(message_of<OptionError>([&] { writer.add("i", a.view(), Dtype::i32); }),
              HasSubstr("'i' of F32 cannot be stored as I32"));
  EXPECT_THAT(message_of<OptionError>([&] { writer.add_bytes("b", Dtype::f32, {3}, {}); }),
              HasSubstr("'b' has 0 bytes for F32 [3]"));
  writer.add_metadata("k", "v");
  EXPECT_THAT(message_of<OptionError>([&] { writer.add_metadata("k", "w"); }), HasSubstr("'k' is added twice"));
  EXPECT_THAT(message_of<OptionError>([&] { writer.add_metadata("l", "\xc3"); }), HasSubstr("not UTF-8"));
  EXPECT_THAT(message_of<OptionError>([&] { writer.add_metadata("gatefold.checksum", "mine"); }),
              HasSubstr("'gatefold.checksum' is added twice"));
  EXPECT_EQ(SafeTensors(writer.bytes()).entries().size(), 1u);
}

TEST(SafeTensorsWriter, RefusesTextThatNoHeaderHolds) {
  SafeTensorsWriter writer;
  EXPECT_THAT(message_of<OptionError>([&] { writer.add_metadata("k", std::string(kMaxHeaderBytes + 1, 'x')); }),
              HasSubstr("exceeds the 100000000 bytes of a header"));
}

TEST(SafeTensorsWriter, TheOldFileSurvivesAFailedWrite) {
  test::TemporaryFolder folder;
  test::write_text(folder / "file", "old");
  const auto a = counting({2, 3});
  SafeTensorsWriter writer;
  writer.add("a", a.view());
  EXPECT_THROW(writer.write(folder / "file" / "below a file"), std::system_error);
  std::filesystem::create_directory(folder / "folder");
  EXPECT_THROW(writer.write(folder / "folder"), std::system_error);
  EXPECT_EQ(test::read_text(folder / "file"), "old");
  EXPECT_EQ(folder.count(), 2);
}

}  // namespace
}  // namespace gatefold::safetensors_writer_test
