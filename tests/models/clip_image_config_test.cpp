#include "gatefold/models/clip_image_config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

namespace gatefold {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

ClipImageOptions read(const std::string& text) {
  return clip_image_options_of_json(nlohmann::json::parse(text), "preprocessor_config.json");
}

TEST(ClipImageConfig, ReadsWhatTheOriginalModelsShip) {
  const auto options = read(R"({"crop_size": 224, "do_center_crop": true, "do_normalize": true, "do_resize": true,
      "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
      "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 224})");
  EXPECT_EQ(options.shortest_edge, 224);
  EXPECT_EQ(options.exact_size, std::nullopt);
  EXPECT_EQ(options.crop, (ImageSize{224, 224}));
  EXPECT_EQ(options.filter, ResizeFilter::bicubic);
  EXPECT_EQ(options.rounding, CropRounding::down);
  EXPECT_EQ(options.rescale_factor, 1.0 / 255.0);
  EXPECT_EQ(options.normalization.deviation[2], 0.27577711);
}

TEST(ClipImageConfig, FillsInWhatIsMissing) {
  const auto options = read("{}"), plain = ClipImageOptions{};
  EXPECT_EQ(options.shortest_edge, plain.shortest_edge);
  EXPECT_EQ(options.crop, plain.crop);
  EXPECT_EQ(options.normalization.mean, plain.normalization.mean);
  EXPECT_EQ(read(R"({"size": null, "image_mean": null})").shortest_edge, 224);
}

TEST(ClipImageConfig, ReadsEveryWayToWriteASize) {
  EXPECT_EQ(read(R"({"size": {"shortest_edge": 336}})").shortest_edge, 336);
  const auto exact = read(R"({"size": {"height": 20, "width": 30}, "crop_size": {"height": 5, "width": 6}})");
  EXPECT_EQ(exact.shortest_edge, std::nullopt);
  EXPECT_EQ(exact.exact_size, (ImageSize{.width = 30, .height = 20}));
  EXPECT_EQ(exact.crop, (ImageSize{.width = 6, .height = 5}));
  EXPECT_EQ(read(R"({"size": [20, 30]})").exact_size, (ImageSize{.width = 30, .height = 20}));
}

TEST(ClipImageConfig, LeavesOutWhatIsSwitchedOff) {
  const auto options = read(R"({"do_resize": false, "do_center_crop": false, "do_rescale": false,
      "do_normalize": false, "resample": 0, "rescale_factor": 0.5, "image_std": [2, 2, 2]})");
  const ClipPreprocess preprocess(options);
  EXPECT_EQ(preprocess.output_size({3, 2}), (ImageSize{3, 2}));
  Image image{1, 1, {0, 77, 255}};
  std::array<float, 3> pixels{};
  preprocess.interleaved<float>(image, {pixels.data(), {1, 1, 3}});
  EXPECT_EQ(pixels, (std::array<float, 3>{0, 77, 255}));
  EXPECT_EQ(read(R"({"resample": 2})").filter, ResizeFilter::bilinear);
  EXPECT_EQ(read(R"({"image_mean": 0.5})").normalization.mean, (std::array<double, 3>{0.5, 0.5, 0.5}));
}

TEST(ClipImageConfig, NamesTheFieldThatIsWrong) {
  const auto reading = [](std::string text) { return [=] { read(text); }; };
  EXPECT_THAT(reading(R"({"size": 0})"),
              ThrowsMessage<FormatError>(AllOf(HasSubstr("preprocessor_config.json"), HasSubstr("«size» is 0"))));
  EXPECT_THAT(reading(R"({"size": 224.5})"), ThrowsMessage<FormatError>(HasSubstr("«size» is 224.5")));
  EXPECT_THAT(reading(R"({"crop_size": "big"})"), ThrowsMessage<FormatError>(HasSubstr("«crop_size» is \"big\"")));
  EXPECT_THAT(reading(R"({"crop_size": 99999999999})"), ThrowsMessage<FormatError>(HasSubstr("1..8192")));
  EXPECT_THAT(reading(R"({"resample": 1})"), ThrowsMessage<FormatError>(HasSubstr("3 (bicubic) or 2 (bilinear)")));
  EXPECT_THAT(reading(R"({"image_mean": [1, 2]})"), ThrowsMessage<FormatError>(HasSubstr("three numbers")));
  EXPECT_THAT(reading(R"({"image_std": [0, 1, 1]})"),
              ThrowsMessage<FormatError>(HasSubstr("deviation is 0.000000, expected more than 0")));
  EXPECT_THAT(reading(R"({"do_resize": 1})"), ThrowsMessage<FormatError>(HasSubstr("true or false")));
  EXPECT_THAT(reading("[]"), ThrowsMessage<FormatError>(HasSubstr("not a JSON object")));
}

TEST(ClipImageConfig, ReadsWhatOpenClipSaysOfImages) {
  const auto read = [](const std::string& text) {
    return clip_image_options_of_open_clip(nlohmann::json::parse(text), "preprocess_cfg", 32);
  };
  const auto squash = read(R"({"resize_mode": "squash", "interpolation": "bilinear", "size": 224, "mode": "RGB"})");
  EXPECT_EQ(squash.exact_size, (ImageSize{32, 32}));
  EXPECT_EQ(squash.shortest_edge, std::nullopt);
  EXPECT_EQ(squash.crop, std::nullopt);
  EXPECT_EQ(squash.filter, ResizeFilter::bilinear);
  const auto longest = read(R"({"resize_mode": "longest", "fill_color": 7, "std": 0.5})");
  EXPECT_EQ(longest.longest_edge, 32);
  EXPECT_EQ(longest.shortest_edge, std::nullopt);
  EXPECT_EQ(longest.crop, (ImageSize{32, 32}));
  EXPECT_EQ(longest.fill, 7);
  EXPECT_EQ(longest.normalization.deviation, (std::array<double, 3>{0.5, 0.5, 0.5}));
  EXPECT_EQ(read(R"({"resize_mode": "shortest", "interpolation": "random"})").filter, ResizeFilter::bicubic);
  for (const auto& [text, said] : {std::pair(R"({"resize_mode": "stretch"})", "«resize_mode» is \"stretch\""),
                                   {R"({"interpolation": "lanczos"})", "«interpolation» is \"lanczos\""},
                                   {R"({"mode": "L"})", "«mode» is \"L\""},
                                   {R"({"fill_color": 256})", "0..255"},
                                   {R"({"gamma": 2.2})", "«gamma» is 2.2, expected not to find it"}})
    EXPECT_THAT(([&, text = text] { read(text); }), ThrowsMessage<FormatError>(HasSubstr(said))) << text;
}

TEST(ClipImageConfig, RefusesWhatItDoesNotKnow) {
  const auto reading = [](std::string text) { return [=] { read(text); }; };
  EXPECT_THAT(reading(R"({"image_processor_type": "SiglipImageProcessor"})"),
              ThrowsMessage<FormatError>(HasSubstr("expected \"CLIPImageProcessor\"")));
  EXPECT_THAT(reading(R"({"do_thumbnail": true})"), ThrowsMessage<FormatError>(HasSubstr("«do_thumbnail» is true")));
  EXPECT_THAT(reading(R"({"size": {"shortest_edge": 224, "longest_edge": 448}})"),
              ThrowsMessage<FormatError>(HasSubstr("shortest_edge alone")));
  EXPECT_NO_THROW(reading(R"({"do_pad": false, "pad_size": null, "_valid_processor_keys": ["images"],
      "image_processor_type": "CLIPImageProcessorFast", "do_convert_rgb": true, "data_format": "channels_first"})")());
  EXPECT_EQ(read(R"({"size": 32, "default_to_square": true})").exact_size, (ImageSize{32, 32}));
}

TEST(ClipImageConfig, FindsTheFileOfEachLibrary) {
  const auto folder = std::filesystem::path(::testing::TempDir()) / "gatefold_clip_image_config";
  const auto write = [&](const char* name, const std::string& text) { std::ofstream(folder / name) << text; };
  std::filesystem::create_directories(folder);
  const auto with = [&](ClipNames names) { return load_clip_image_options(folder, names, 96); };
  EXPECT_EQ(with(ClipNames::hugging_face).crop, (ImageSize{96, 96}));
  EXPECT_EQ(with(ClipNames::open_clip).alpha, Alpha::ignored);
  write("preprocessor_config.json", R"({"size": 64})");
  EXPECT_EQ(with(ClipNames::open_clip).shortest_edge, 64);
  EXPECT_EQ(with(ClipNames::open_clip).rounding, CropRounding::half_even);
  EXPECT_EQ(with(ClipNames::hugging_face).rounding, CropRounding::down);
  EXPECT_EQ(with(ClipNames::hugging_face).alpha, Alpha::over_white);
  write("open_clip_config.json", R"({"preprocess_cfg": {"mean": [0.1, 0.2, 0.3]}})");
  const auto open_clip = with(ClipNames::open_clip);
  EXPECT_EQ(open_clip.shortest_edge, 96);
  EXPECT_EQ(open_clip.rounding, CropRounding::half_even);
  EXPECT_EQ(open_clip.alpha, Alpha::ignored);
  EXPECT_EQ(open_clip.normalization.mean, (std::array<double, 3>{0.1, 0.2, 0.3}));
  EXPECT_EQ(with(ClipNames::hugging_face).shortest_edge, 64);  // each its own
  std::filesystem::remove(folder / "preprocessor_config.json");
  EXPECT_EQ(with(ClipNames::hugging_face).normalization.mean, (std::array<double, 3>{0.1, 0.2, 0.3}));
  EXPECT_EQ(with(ClipNames::hugging_face).alpha, Alpha::over_white);
  write("processor_config.json", R"({"image_processor": {"size": {"shortest_edge": 48}}})");
  EXPECT_EQ(load_clip_image_options(folder).shortest_edge, 48);
  write("preprocessor_config.json", R"({"size": 64})");
  EXPECT_EQ(load_clip_image_options(folder).shortest_edge, 64);
  write("preprocessor_config.json", R"({"size": 64)");
  EXPECT_THAT([&] { load_clip_image_options(folder); },
              ThrowsMessage<FormatError>(HasSubstr("preprocessor_config.json: is not a JSON object")));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace gatefold
