#include "gatefold/image/decode.hpp"
#include "tests/support/test_data.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

namespace gatefold::decode_test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::ThrowsMessage;

std::vector<std::uint8_t> from_hexadecimal(const std::string& text) {
  std::vector<std::uint8_t> bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    bytes.push_back(static_cast<std::uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

struct Golden {
  std::string name;
  int tolerance = 0;
  Image image;
  std::vector<std::uint8_t> file;
};

std::vector<Golden> goldens() {
  std::ifstream file(gatefold::test::test_data("image_goldens.txt"));
  std::vector<Golden> all;
  Golden golden;
  std::string rgb, bytes;
  while (file >> golden.name >> golden.tolerance >> golden.image.width >> golden.image.height >> rgb >> bytes) {
    golden.image.rgb = from_hexadecimal(rgb);
    golden.file = from_hexadecimal(bytes);
    all.push_back(golden);
  }
  return all;
}

std::vector<std::uint8_t> golden_file(const std::string& name) {
  for (const auto& golden : goldens())
    if (golden.name == name) return golden.file;
  ADD_FAILURE() << "no golden " << name;
  return {};
}

/// A PNG that promises `width` x `height` and has no pixels.
std::vector<std::uint8_t> png_without_pixels(std::uint32_t width, std::uint32_t height) {
  auto bytes =
      from_hexadecimal("89504e470d0a1a0a0000000d4948445200000000000000000802000000ffffffff0000000049454e44ae426082");
  for (std::size_t i = 0; i < 4; ++i) {
    bytes[16 + i] = static_cast<std::uint8_t>(width >> (24 - 8 * i));
    bytes[20 + i] = static_cast<std::uint8_t>(height >> (24 - 8 * i));
  }
  return bytes;
}

TEST(Decode, GivesTheExpectedPixels) {
  const auto all = goldens();
  ASSERT_EQ(all.size(), 10u);
  for (const auto& golden : all) {
    const auto image = decode_image(golden.file, {.name = golden.name});
    ASSERT_EQ(image.size(), golden.image.size()) << golden.name;
    for (std::size_t i = 0; i < image.rgb.size(); ++i)
      EXPECT_NEAR(image.rgb[i], golden.image.rgb[i], golden.tolerance) << golden.name << " byte " << i;
  }
}

TEST(Decode, NamesWhatIsWrong) {
  const auto decoding = [](std::vector<std::uint8_t> bytes) {
    return [bytes] { decode_image(bytes, {.name = "shirt.webp"}); };
  };
  EXPECT_THAT(decoding({}), ThrowsMessage<FormatError>(AllOf(HasSubstr("shirt.webp"), HasSubstr("is empty"))));
  EXPECT_THAT(decoding({'R', 'I', 'F', 'F', 1, 2, 3, 4}),
              ThrowsMessage<FormatError>(AllOf(
                  StartsWith("shirt.webp: is no picture that is known, expected PNG, JPEG"), HasSubstr("; convert"))));
  EXPECT_THAT(decoding({'B', 'M', 1, 2, 3, 4, 5, 6, 7, 8}), ThrowsMessage<FormatError>(HasSubstr("convert")));
  EXPECT_THAT(decoding(png_without_pixels(0, 5)), ThrowsMessage<FormatError>(HasSubstr("header is not readable")));
  auto damaged = golden_file("png_rgb");
  const std::string_view data = "IDAT";
  *(std::search(damaged.begin(), damaged.end(), data.begin(), data.end()) + 4) = 0;  // the zlib header
  EXPECT_THAT(decoding(damaged), ThrowsMessage<FormatError>(HasSubstr("pixels are not readable")));
  EXPECT_THAT(decoding(png_without_pixels(9, 5)), ThrowsMessage<FormatError>(HasSubstr("no IDAT")));
}

TEST(Decode, RefusesHugeImagesFromTheirHeader) {
  const auto huge = [](Index most) {
    return [most] { decode_image(png_without_pixels(16385, 16384), {.max_pixels = most, .limit_name = "--more"}); };
  };
  EXPECT_THAT(huge(kUsualPixels), ThrowsMessage<FormatError>(AllOf(
                                      HasSubstr("16385 x 16384, expected at least 1 x 1 and at most 89478485 pixels"),
                                      HasSubstr("or raise --more"))));
  EXPECT_THAT(huge(kMaxPixels * 9),
              ThrowsMessage<FormatError>(AllOf(HasSubstr("at most 268435456 pixels"), Not(HasSubstr("--more")))));
  // A larger limit lets it in; what it then lacks are its pixels.
  EXPECT_THAT([] { decode_image(png_without_pixels(12000, 9000), {.max_pixels = 108'000'000}); },
              ThrowsMessage<FormatError>(HasSubstr("no IDAT")));
  const auto small = golden_file("png_rgb");  // 5 x 3
  EXPECT_NO_THROW(decode_image(small, {.max_pixels = 15}));
  EXPECT_THROW(decode_image(small, {.max_pixels = 14}), FormatError);
}

TEST(Decode, RefusesFilesCutShort) {
  for (const auto& golden : goldens()) {
    for (std::size_t length = 0; length < golden.file.size(); ++length) {
      const std::vector<std::uint8_t> cut(golden.file.begin(), golden.file.begin() + static_cast<Index>(length));
      EXPECT_THROW(decode_image(cut), FormatError) << golden.name << " of " << length << " bytes";
    }
  }
}

TEST(Decode, RefusesHuffmanTablesThatStbWouldOverrun) {
  auto bytes = golden_file("jpeg");
  const std::vector<std::uint8_t> marker{0xff, 0xc4};
  const auto table = std::search(bytes.begin(), bytes.end(), marker.begin(), marker.end());
  ASSERT_NE(table, bytes.end());
  std::fill_n(table + 5, 16, std::uint8_t{255});
  EXPECT_THAT([&] { decode_image(bytes); }, ThrowsMessage<FormatError>(HasSubstr("4080 symbols")));
}

TEST(Decode, DoesNotUnpackMoreThanTheSizeAllows) {
  // 1 x 1, its data 8 MiB of zeros: allowed is 1 MiB and a bit.
  auto bytes = png_without_pixels(1, 1);
  bytes.resize(bytes.size() - 12);  // its IEND
  std::vector<std::uint8_t> zeros{0x78, 0x01};
  const std::size_t block = 65535;
  for (int i = 0; i < 128; ++i) {  // stored blocks, the last one closes the stream
    zeros.insert(zeros.end(), {static_cast<std::uint8_t>(i == 127), 0xff, 0xff, 0x00, 0x00});
    zeros.resize(zeros.size() + block);
  }
  const auto length = zeros.size();
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<std::uint8_t>(length >> shift));
  bytes.insert(bytes.end(), {'I', 'D', 'A', 'T'});
  bytes.insert(bytes.end(), zeros.begin(), zeros.end());
  bytes.insert(bytes.end(), {0, 0, 0, 0, 0, 0, 0, 0, 'I', 'E', 'N', 'D', 0, 0, 0, 0});
  EXPECT_THAT([&] { decode_image(bytes); }, ThrowsMessage<FormatError>(HasSubstr("outofmem")));
}

TEST(Decode, ReadsFilesAndNamesThem) {
  const auto path = std::filesystem::path(::testing::TempDir()) / "gatefold_decode_test.png";
  const auto bytes = golden_file("png_rgb");
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  EXPECT_EQ(decode_image_file(path), decode_image(bytes));
  std::ofstream(path, std::ios::binary) << "GIF89a";
  EXPECT_THAT([&] { decode_image_file(path); },
              ThrowsMessage<FormatError>(AllOf(StartsWith(path.string() + ": is a GIF, expected PNG"),
                                               HasSubstr("; convert it to one of them"))));
  std::filesystem::remove(path);
  EXPECT_THAT([&] { decode_image_file(path); },
              ThrowsMessage<FormatError>(path.string() + ": cannot be read: No such file or directory"));
  EXPECT_THAT([&] { decode_image_file(::testing::TempDir()); },
              ThrowsMessage<FormatError>(HasSubstr("Is a directory")));
}

TEST(Decode, TellsFromTheHeaderHowMuchMemoryItNeeds) {
  const auto bytes = golden_file("png_rgb");  // 5 x 3
  std::size_t needed = 0;
  DecodeOptions options{.reserve = [&](std::size_t count) { needed = count; }};
  decode_image(bytes, options);
  EXPECT_EQ(needed, 15 * 12 + bytes.size());
  const auto deep = golden_file("png_rgb16");
  decode_image(deep, options);
  EXPECT_EQ(needed, 15 * 23 + deep.size());
  options.reserve = [](std::size_t) { throw std::runtime_error("not now"); };
  EXPECT_THROW(decode_image(bytes, options), std::runtime_error);
}

TEST(Decode, DoesNotBlameTheFileForTheMachine) {
  const auto bytes = golden_file("jpeg");
  EXPECT_THAT([&] { decode_image(bytes, {.name = "a.jpg", .reserve = [](std::size_t) { throw std::bad_alloc(); }}); },
              ThrowsMessage<MemoryError>(StartsWith("a.jpg: there is not enough memory")));
  detail::stb_out_of_memory = false;
  EXPECT_EQ(detail::stb_given(nullptr), nullptr);  // what the machine answers when it has no more
  EXPECT_TRUE(detail::stb_out_of_memory);
  detail::stb_out_of_memory = false;
  detail::stb_allocation_limit = 10;
  EXPECT_EQ(detail::stb_allocate(11), nullptr);  // of a file that wants more than its size can need
  EXPECT_FALSE(detail::stb_out_of_memory);
}

}  // namespace
}  // namespace gatefold::decode_test
