#include "gatefold/io/safetensors.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/io/temporary_folder.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold::safetensors_test {
namespace {

using ::testing::HasSubstr;
using test::message_of;
using ::testing::StartsWith;

const std::filesystem::path kData = test::test_data("");

std::string length_text(std::uint64_t length) {
  std::string text(8, '\0');
  std::memcpy(text.data(), &length, 8);
  return text;
}
/// A file of this header and that many bytes 1, 2, 3...
std::string file_of(const std::string& header, std::size_t data_bytes) {
  std::string file = length_text(header.size()) + header;
  for (std::size_t i = 1; i <= data_bytes; ++i) file += static_cast<char>(i);
  return file;
}
SafeTensors parse(const std::string& file) { return SafeTensors(std::as_bytes(std::span(file)), "evil.safetensors"); }

template <class T>
std::vector<T> values(const SafeTensors& file, std::string_view name) {
  const auto* entry = file.find(name);
  if (!entry) throw std::runtime_error(std::string(name) + " is missing");
  std::vector<T> out(entry->bytes.size() / size_bytes(entry->dtype));
  decode<T>(entry->dtype, entry->bytes, out);
  return out;
}

TEST(SafeTensors, ReadsWhatTheReferenceWrote) {
  const SafeTensors file(MappedFile(kData / "safetensors_mixed.safetensors"));
  EXPECT_EQ(file.entries().size(), 19u);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "np \"quoted\"\n"}}));
  EXPECT_EQ(file.find("matrix")->shape, (std::vector<Index>{2, 3}));
  EXPECT_EQ(values<float>(file, "matrix"), (std::vector{-1.f, -0.75f, -0.5f, -0.25f, 0.f, 0.25f}));
  EXPECT_EQ(values<double>(file, "double"), (std::vector{3.141592653589793, -5e-324, 1e300}));
  EXPECT_EQ(values<std::int64_t>(file, "i64"), (std::vector<std::int64_t>{INT64_MIN, INT64_MAX}));
  EXPECT_EQ(values<std::int32_t>(file, "i32"), (std::vector<std::int32_t>{INT32_MIN, INT32_MAX}));
  EXPECT_EQ(values<std::int16_t>(file, "i16"), (std::vector<std::int16_t>{INT16_MIN, INT16_MAX}));
  EXPECT_EQ(values<std::int8_t>(file, "i8"), (std::vector<std::int8_t>{-128, 127, 5}));
  EXPECT_EQ(values<std::uint64_t>(file, "u64"), std::vector<std::uint64_t>{UINT64_MAX});
  EXPECT_EQ(values<std::uint32_t>(file, "u32"), std::vector<std::uint32_t>{UINT32_MAX});
  EXPECT_EQ(values<std::uint16_t>(file, "u16"), std::vector<std::uint16_t>{UINT16_MAX});
  EXPECT_EQ(values<std::uint8_t>(file, "u8"), (std::vector<std::uint8_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(file.find("bool")->dtype, Dtype::boolean);
  EXPECT_EQ(file.find("c64")->dtype, Dtype::c64);
  EXPECT_EQ(file.find("scalar")->shape, std::vector<Index>{});
  EXPECT_EQ(values<float>(file, "scalar"), std::vector{2.5f});
  EXPECT_EQ(file.find("empty")->shape, (std::vector<Index>{0, 3}));
  EXPECT_NE(file.find("quoted \"name\" \\ / \t\n\x01 \u00e9 \u2603"), nullptr);
  EXPECT_EQ(file.find("absent"), nullptr);
}

TEST(SafeTensors, ConvertsHalvesAndRoundsBfloat16AsNumPyDoes) {
  const SafeTensors file(MappedFile(kData / "safetensors_mixed.safetensors"));
  EXPECT_EQ(values<float>(file, "half"), values<float>(file, "half_as_float"));
  EXPECT_EQ(values<bf16>(file, "rounding"), values<bf16>(file, "rounding_as_bf16"));
}

TEST(SafeTensors, ReadsAnEmptyFileOfTheReference) {
  const SafeTensors file(MappedFile(kData / "safetensors_empty.safetensors"));
  EXPECT_TRUE(file.entries().empty());
  EXPECT_TRUE(file.metadata().empty());
}

TEST(SafeTensors, ReadsUnalignedTensorsInAnyOrder) {
  const auto content =
      file_of(R"({"f":{"data_offsets":[1,5],"shape":[2],"dtype":"F16"},"empty":{"dtype":"F32",)"
              R"("shape":[7,0],"data_offsets":[1,1]},"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}} )",
              5);
  const auto file = parse(content);
  EXPECT_EQ(file.entries()[0].name, "a");
  EXPECT_EQ(values<std::uint8_t>(file, "a"), std::vector<std::uint8_t>{1});
  EXPECT_EQ(values<float>(file, "empty"), std::vector<float>{});
  // The bytes 02 03 and 04 05 as halves: 0x0302 and 0x0504.
  EXPECT_EQ(values<float>(file, "f"), (std::vector{0x302 * 0x1p-24f, (1 + 0x104 / 1024.f) * 0x1p-14f}));
}

TEST(SafeTensors, StaysValidWhenMoved) {
  SafeTensors first(MappedFile(kData / "safetensors_matrix.safetensors"));
  const SafeTensors file = std::move(first);
  EXPECT_EQ(values<float>(file, "a").front(), -1.f);
  EXPECT_THAT(file.source(), ::testing::EndsWith("safetensors_matrix.safetensors"));
}

struct Hostile {
  std::string what, file, message;
};

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{" + tensor("x", dtype, shape, offsets) + "}";
}

std::vector<Hostile> hostile_files() {
  const std::string f = "\"F32\"", u = "\"U8\"";
  const std::string good = tensor("x", f, "[2]", "[0,8]");
  const std::string deep(100000, '[');
  return {
      {"empty file", "", "came 0 bytes, wanted at least 8"},
      {"cut inside the length", std::string(7, '\0'), "came 7 bytes, wanted at least 8"},
      {"no header", length_text(0), "header came without {"},
      {"header length over the limit", length_text(100'000'001) + "{}",
       "header length came 100000001, wanted at most 100000000"},
      {"header length that wraps", length_text(UINT64_MAX) + "{}", "header length came 18446744073709551615"},
      {"header length past the end", length_text(3) + "{}", "header length came 3, wanted at most the 2 bytes"},
      {"header cut short", length_text(20) + "{" + good.substr(0, 19), "header is not JSON"},
      {"data cut short", file_of("{" + good + "}", 7),
       "'x': data_offsets: came [0, 8], wanted at most the 7 bytes of data"},
      {"data missing", file_of("{" + good + "}", 0),
       "'x': data_offsets: came [0, 8], wanted at most the 0 bytes of data"},
      {"trailing bytes", file_of("{" + good + "}", 9), "came 9 bytes of data, wanted the 8 that the tensors cover"},
      {"data without tensors", file_of("{}", 1), "came 1 bytes of data, wanted the 0 that"},

      {"array for a header", file_of("[]", 0), "header came without {"},
      {"white space first", file_of(" {}", 0), "header came without {"},
      {"byte order mark", file_of("\xef\xbb\xbf{}", 0), "header came without {"},
      {"text behind the header", file_of("{}{}", 0), "header is not JSON at byte 3"},
      {"NUL behind the header", file_of(std::string("{}\0{", 4), 0), "NUL at byte 2"},
      {"NUL in the header", file_of(std::string("{\0}", 3), 0), "NUL at byte 1"},
      {"NUL in a name", file_of("{" + tensor("a\\u0000b", f, "[2]", "[0,8]") + "}", 8), "a NUL in 'a\\x00b'"},
      {"control character", file_of("{\"a\nb\":{}}", 0), "header is not JSON"},
      {"comment", file_of("{/* */}", 0), "header is not JSON"},
      {"comma at the end", file_of("{" + good + ",}", 8), "header is not JSON"},
      {"not UTF-8", file_of("{\"\xff\xfe\":{}}", 0), "ill-formed UTF-8"},
      {"overlong UTF-8", file_of("{\"\xc0\xaf\":{}}", 0), "ill-formed UTF-8"},
      {"half a surrogate pair", file_of("{\"\\ud800\":{}}", 0), "header is not JSON"},
      {"deep arrays", file_of("{\"x\":{\"shape\":" + deep, 0),
       "'x': shape: came an array, wanted non-negative integers"},
      {"deep objects", file_of(R"({"x":{"dtype":{"a":{"b":{)", 0), "'x': dtype: came an object, wanted a string"},
      {"deep names", file_of("{\"x\":" + deep, 0), "'x': came an array, wanted an object"},

      {"tensor twice", file_of("{" + good + "," + good + "}", 8), "'x': came twice, wanted once"},
      {"tensor twice, escaped", file_of("{" + good + "," + tensor("\\u0078", u, "[0]", "[8,8]") + "}", 8),
       "'x': came twice"},
      {"field twice", file_of(R"({"x":{"dtype":"U8","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8),
       "'x': dtype: came twice"},
      {"shape twice", file_of(R"({"x":{"dtype":"F32","shape":[],"shape":[2],"data_offsets":[0,8]}})", 8),
       "'x': shape: came twice"},
      {"metadata twice", file_of(R"({"__metadata__":{},"__metadata__":{}})", 0), "__metadata__ came twice"},
      {"metadata key twice", file_of(R"({"__metadata__":{"a":"b","a":"b"}})", 0), "__metadata__: key 'a': came twice"},
      {"metadata number", file_of(R"({"__metadata__":{"a":1}})", 0), "__metadata__: key 'a': came 1, wanted a string"},
      {"metadata object", file_of(R"({"__metadata__":{"a":{}}})", 0), "__metadata__: key 'a': came an object"},
      {"metadata array", file_of(R"({"__metadata__":["a"]})", 0), "came an array, wanted an object"},
      {"metadata null", file_of(R"({"__metadata__":null})", 0), "came null, wanted an object"},
      {"tensor in the place of metadata", file_of("{" + tensor("__metadata__", f, "[2]", "[0,8]") + "}", 8),
       "__metadata__: key 'shape': came an array"},

      {"unknown field", file_of(R"({"x":{"dtype":"F32","stride":[1]}})", 0), "'x': key: came 'stride'"},
      {"no dtype", file_of(R"({"x":{"shape":[2],"data_offsets":[0,8]}})", 8), "'x': dtype: came nothing"},
      {"no shape", file_of(R"({"x":{"dtype":"F32","data_offsets":[0,8]}})", 8), "'x': shape: came nothing"},
      {"no offsets", file_of(R"({"x":{"dtype":"F32","shape":[2]}})", 8), "'x': data_offsets: came nothing"},
      {"unknown dtype", file_of(one("\"F31\"", "[2]", "[0,8]"), 8), "'x': dtype: came 'F31', wanted a known dtype"},
      {"lower case dtype", file_of(one("\"f32\"", "[2]", "[0,8]"), 8), "'x': dtype: came 'f32'"},
      {"dtype number", file_of(one("32", "[2]", "[0,8]"), 8), "'x': dtype: came 32, wanted a string"},
      {"dtype null", file_of(one("null", "[2]", "[0,8]"), 8), "'x': dtype: came null, wanted a string"},

      {"negative extent", file_of(one(f, "[-2]", "[0,8]"), 8), "'x': shape: came -2, wanted non-negative integers"},
      {"minus zero", file_of(one(f, "[-0]", "[0,0]"), 0), "'x': shape: came -0"},
      {"float extent", file_of(one(f, "[2.0]", "[0,8]"), 8), "'x': shape: came 2.0"},
      {"exponent extent", file_of(one(f, "[2e0]", "[0,8]"), 8), "'x': shape: came 2e0"},
      {"huge float extent", file_of(one(f, "[1e400]", "[0,8]"), 8), "1e400"},
      {"extent of 2^64", file_of(one(f, "[18446744073709551616]", "[0,8]"), 8),
       "'x': shape: came 18446744073709551616"},
      {"extent of 2^63", file_of(one(u, "[9223372036854775808]", "[0,8]"), 8), "'x': shape: came 9223372036854775808"},
      {"count that wraps to 2", file_of(one(u, "[4294967296,4294967296,2]", "[0,2]"), 2),
       "'x': shape: came [4294967296, 4294967296, 2], wanted a size that can be addressed"},
      {"size that wraps to 8", file_of(one(f, "[4611686018427387906]", "[0,8]"), 8),
       "'x': shape: came [4611686018427387906], wanted a size"},
      {"overflow hidden by a zero", file_of(one(u, "[4294967296,4294967296,0]", "[0,0]"), 0),
       "wanted a size that can be addressed"},
      {"string extent", file_of(one(f, "[\"2\"]", "[0,8]"), 8), "'x': shape: came '2'"},
      {"true extent", file_of(one(f, "[true]", "[0,8]"), 8), "'x': shape: came true"},
      {"shape number", file_of(one(f, "2", "[0,8]"), 8), "'x': shape: came 2, wanted an array"},
      {"shape null", file_of(one(f, "null", "[0,8]"), 8), "'x': shape: came null"},
      {"65 axes",
       file_of(one(
                   u,
                   "[1" +
                       [] {
                         std::string s;
                         for (int i = 0; i < 64; ++i) s += ",1";
                         return s;
                       }() +
                       "]",
                   "[0,1]"),
               1),
       "'x': shape: came more than 64 axes"},
      {"shape too small", file_of(one(f, "[1]", "[0,8]"), 8),
       "'x': data_offsets: came [0, 8] (8 bytes), wanted 4 bytes for F32 [1]"},
      {"shape too large", file_of(one(f, "[3]", "[0,8]"), 8), "wanted 12 bytes for F32 [3]"},
      {"scalar of two", file_of(one(f, "[]", "[0,8]"), 8), "wanted 4 bytes for F32 []"},
      {"wrong dtype for the span", file_of(one("\"F64\"", "[2]", "[0,8]"), 8), "wanted 16 bytes for F64 [2]"},

      {"begin behind end", file_of(one(f, "[2]", "[8,0]"), 8), "'x': data_offsets: came [8, 0], wanted begin <= end"},
      {"offsets past the end", file_of(one(f, "[2]", "[8,16]"), 8),
       "'x': data_offsets: came [8, 16], wanted at most the 8 bytes"},
      {"end of 2^64 - 1", file_of(one(f, "[2]", "[18446744073709551608,18446744073709551615]"), 8),
       "wanted at most the 8 bytes"},
      {"negative begin", file_of(one(f, "[2]", "[-8,0]"), 8),
       "'x': data_offsets: came -8, wanted two non-negative integers"},
      {"offsets as strings", file_of(one(f, "[2]", "[\"0\",\"8\"]"), 8),
       "'x': data_offsets: came '0', wanted two non-negative integers"},
      {"float offsets", file_of(one(f, "[2]", "[0.0,8.0]"), 8), "'x': data_offsets: came 0.0"},
      {"one offset", file_of(one(f, "[2]", "[8]"), 8), "'x': data_offsets: came 1 numbers, wanted two"},
      {"three offsets", file_of(one(f, "[2]", "[0,8,8]"), 8), "'x': data_offsets: came a third number"},
      {"nested offsets", file_of(one(f, "[2]", "[[0,8]]"), 8), "'x': data_offsets: came an array"},

      {"overlap", file_of("{" + tensor("a", u, "[5]", "[0,5]") + "," + tensor("b", u, "[4]", "[4,8]") + "}", 8),
       "'b': begin came 4, wanted 5 (it overlaps another tensor)"},
      {"the same span twice",
       file_of("{" + tensor("a", u, "[8]", "[0,8]") + "," + tensor("b", u, "[8]", "[0,8]") + "}", 8),
       "begin came 0, wanted 8 (it overlaps"},
      {"empty tensor inside another",
       file_of("{" + tensor("a", u, "[8]", "[0,8]") + "," + tensor("b", u, "[0]", "[4,4]") + "}", 8),
       "'b': begin came 4, wanted 8 (it overlaps"},
      {"gap", file_of("{" + tensor("a", u, "[3]", "[0,3]") + "," + tensor("b", u, "[4]", "[4,8]") + "}", 8),
       "'b': begin came 4, wanted 3 (a gap in the data)"},
      {"gap at the start", file_of(one(u, "[7]", "[1,8]"), 8), "'x': begin came 1, wanted 0 (a gap in the data)"},
  };
}

TEST(SafeTensors, RefusesHostileFilesAndNamesTheTrouble) {
  for (const auto& hostile : hostile_files()) {
    const auto error = message_of<FormatError>([&] { parse(hostile.file); });
    EXPECT_THAT(error, StartsWith("evil.safetensors: ")) << hostile.what;
    EXPECT_THAT(error, HasSubstr(hostile.message)) << hostile.what;
  }
}

TEST(SafeTensors, RefusesEveryShortenedFile) {
  const auto content = test::read_text(kData / "safetensors_matrix.safetensors");
  EXPECT_EQ(parse(content).entries().size(), 2u);
  for (std::size_t size = 0; size < content.size(); ++size)
    EXPECT_THROW(parse(content.substr(0, size)), FormatError) << size;
  EXPECT_THROW(parse(content + '\0'), FormatError);
}

TEST(SafeTensors, MessagesNeitherFloodNorSteerATerminal) {
  const auto error =
      message_of<FormatError>([&] { parse(file_of("{\"\\u001b[31m" + std::string(100000, 'a') + "\":1}", 0)); });
  EXPECT_LT(error.size(), 300u);
  EXPECT_THAT(error, HasSubstr("\\x1b[31maaa"));
}

}  // namespace
}  // namespace gatefold::safetensors_test
