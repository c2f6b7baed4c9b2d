#include "tests/support/test_data.hpp"
#include "zero_shot/samples.hpp"

#include <gmock/gmock.h>

#include "gatefold/image/decode.hpp"
#include "tests/io/temporary_folder.hpp"
#include "wardrobe/free_caption.hpp"

namespace zero_shot {
namespace {

using testing::HasSubstr;

const std::string kGood =
    R"({"made_by": "me", "label_sets": {"two": ["a", "b"]}, "pictures": [{"file": "x.png", "labels": "two", "expected": "b"}]})";

std::string refusal(const std::string& text) {
  try {
    parse_manifest(text, "manifest.json");
  } catch (const gatefold::FormatError& e) {
    return e.what();
  }
  return "accepted";
}
/// The good manifest with one piece of it exchanged.
std::string with(const std::string& piece, const std::string& other) {
  std::string text = kGood;
  const auto at = text.find(piece);
  if (at == std::string::npos) throw std::logic_error("no such piece: " + piece);
  return text.replace(at, piece.size(), other);
}

TEST(Manifest, IsReadAndWritten) {
  const Manifest manifest = parse_manifest(kGood, "manifest.json");
  EXPECT_EQ(manifest.made_by, "me");
  EXPECT_EQ(manifest.label_sets.at("two"), (std::vector<std::string>{"a", "b"}));
  ASSERT_EQ(manifest.pictures.size(), 1u);
  EXPECT_EQ(manifest.pictures[0].file, "x.png");
  EXPECT_EQ(manifest.pictures[0].expected, "b");
  EXPECT_EQ(to_json(parse_manifest(to_json(manifest), "again")), to_json(manifest));
}

TEST(Manifest, SaysWhatIsWrongWhere) {
  EXPECT_THAT(refusal("{"), HasSubstr("manifest.json: is not a JSON object"));
  EXPECT_THAT(refusal("[]"), HasSubstr("is not a JSON object"));
  EXPECT_THAT(refusal(with("made_by", "made")), HasSubstr("«made_by» is missing"));
  EXPECT_THAT(refusal(with(R"("me")", "7")), HasSubstr("«made_by» is a number"));
  EXPECT_THAT(refusal(with(R"({"two": ["a", "b"]})", "[]")), HasSubstr("«label_sets» is a array"));
  EXPECT_THAT(refusal(with(R"(["a", "b"])", "[]")), HasSubstr("label set «two»: is not a list of labels"));
  EXPECT_THAT(refusal(with(R"(["a", "b"])", R"(["a", 1])")), HasSubstr("label set «two»: holds a number"));
  EXPECT_THAT(refusal(with(R"(["a", "b"])", R"(["b", "b"])")), HasSubstr("holds a label twice"));
  EXPECT_THAT(refusal(with(R"([{"file": "x.png", "labels": "two", "expected": "b"}])", "[]")),
              HasSubstr("lists no pictures"));
  EXPECT_THAT(refusal(with(R"({"file": "x.png", "labels": "two", "expected": "b"})", "3")),
              HasSubstr("picture 1: «file» is missing"));
  EXPECT_THAT(refusal(with(R"("labels": "two")", R"("labels": "three")")), HasSubstr("no label set «three»"));
  EXPECT_THAT(refusal(with(R"("expected": "b")", R"("expected": "c")")), HasSubstr("«c» is not in the label set"));
}

TEST(Manifest, IsNotWaitedForNorNestedWithoutEnd) {
  EXPECT_THAT(refusal(std::string(95'000, '[')), HasSubstr("manifest.json: is nested deeper than 64 levels"));
  const gatefold::test::TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "manifest.json").c_str(), 0600), 0);
  EXPECT_THAT(
      gatefold::test::message_of<gatefold::FormatError>([&] { (void)read_manifest(folder / "manifest.json"); }),
      HasSubstr("a pipe that nobody writes into; make the samples"));
}

TEST(Manifest, NamesOnlyItsNeighbours) {
  for (const std::string file : {"../x.png", "/etc/passwd", "a/b.png", "..", ""})
    EXPECT_THAT(refusal(with("x.png", file)), HasSubstr("is not the name of a file in the same folder")) << file;
}

TEST(Manifest, ThatCannotBeReadNamesTheProgramThatMakesOne) {
  EXPECT_THROW(
      {
        try {
          read_manifest("/no/such/manifest.json");
        } catch (const gatefold::FormatError& e) {
          EXPECT_THAT(e.what(), HasSubstr("make_samples --out"));
          throw;
        }
      },
      gatefold::FormatError);
}

TEST(ShippedSamples, AreWholeAndMostlyNeverSeen) {
  const auto folder = gatefold::test::test_data("../../examples/samples");
  const Manifest manifest = read_manifest(folder / "manifest.json");
  int never_seen = 0, pairs = 0;
  for (const Sample& sample : manifest.pictures) {
    EXPECT_EQ(gatefold::decode_image_file(folder / sample.file).size(), (gatefold::ImageSize{48, 48})) << sample.file;
    const auto seen = wardrobe::seen_in_training(sample.expected);
    EXPECT_NE(seen, wardrobe::Seen::not_a_combination) << sample.expected;
    never_seen += seen == wardrobe::Seen::no;
    pairs += sample.expected.find(" above ") != std::string::npos;
  }
  EXPECT_EQ(manifest.pictures.size(), 12u);
  EXPECT_EQ(never_seen, 10);
  EXPECT_EQ(pairs, 2);
}

}  // namespace
}  // namespace zero_shot
