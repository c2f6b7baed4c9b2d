#include "gatefold/models/packed_clip_file.hpp"

#include <gmock/gmock.h>

#include <filesystem>

#include "tests/io/temporary_folder.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold {
namespace {

using ::testing::HasSubstr;
using test::message_of;

/// CLIP-MoE's golden: mixtures in the towers, another activation than the default.
Clip<float> golden() {
  return load_clip(gatefold::test::test_data("clip/clip_moe"), {.weights = {.head_width = 4}});
}

class PackedClip : public ::testing::Test {
 protected:
  template <PackedFormat F>
  void comes_back() {
    const auto packed = pack<F>(golden());
    save_packed_clip(packed, ClipNames::open_clip, path_, {{"identity", "7f"}});
    const auto file = open_packed_clip(path_);
    EXPECT_EQ(file.format, detail::packed_format_name<F>());
    EXPECT_EQ(file.names, ClipNames::open_clip);
    EXPECT_EQ(file.notes, (std::map<std::string, std::string>{{"identity", "7f"}}));
    EXPECT_EQ(options_to_json(file.options), options_to_json(packed.options));
    const auto loaded = load_packed_clip<F>(file);

    const auto& o = packed.options;
    Tensor<float, 4> images({3, o.image_size, o.image_size, o.channels});
    for (std::size_t i = 0; i < images.flat().size(); ++i) images.flat()[i] = static_cast<float>(i % 17) / 8 - 1;
    Tensor<Index, 2> ids({2, o.context});
    for (std::size_t i = 0; i < ids.flat().size(); ++i) ids.flat()[i] = static_cast<Index>(i * 7) % o.vocabulary;
    const auto both = [&](const auto& clip) {
      Tensor<float, 2> z({5, o.embedding});
      clip.encode_images(images, z.view().rows(0, 3), ctx_);
      clip.encode_texts(ids, z.view().rows(3, 5), ctx_);
      return z;
    };
    EXPECT_EQ(both(loaded), both(packed));
    EXPECT_EQ(loaded.logit_scale, packed.logit_scale);
    // The packed weights are used where they lie in the file.
    const auto* values = file.reader.file().find("clip.vision.patch_embed.projection.weight.values");
    ASSERT_NE(values, nullptr);
    EXPECT_EQ(static_cast<const void*>(loaded.vision.patch_embed.projection.weight.values.data()),
              static_cast<const void*>(values->bytes.data()));
  }

  const test::TemporaryFolder folder_;
  const std::filesystem::path path_ = folder_ / "model.safetensors";
  Context ctx_;
};

TEST_F(PackedClip, ComesBackAsItWasInEveryFormat) {
  comes_back<float>();
  comes_back<bf16>();
  comes_back<int8>();
  comes_back<int4>();
}

TEST_F(PackedClip, EveryOptionIsWrittenAndRead) {
  ClipOptions options;
  Index next = 1000;
  const auto change = [&](const std::string&, auto& value) {  // none is as it was, and no two are alike
    using Value = std::remove_cvref_t<decltype(value)>;
    if constexpr (std::is_enum_v<Value>)
      value = static_cast<Value>(num_values(Value{}) - 1);
    else if constexpr (std::is_same_v<Value, bool>)
      value = !value;
    else if constexpr (std::is_same_v<Value, std::vector<Index>>)
      value = {next++, next++};
    else
      value = static_cast<std::conditional_t<std::is_same_v<Value, double>, double, Index>>(next++);
  };
  const auto before = nlohmann::json::parse(options_to_json(options));
  visit_options(change, options);
  const auto text = options_to_json(options);
  EXPECT_EQ(options_to_json(options_from_json<ClipOptions>(text, "x")), text);
  const auto after = nlohmann::json::parse(text);
  for (const auto& [name, value] : before.items()) EXPECT_NE(after.at(name), value) << name;
  EXPECT_EQ(options.text.mixture.balance, after.at("text.mixture.balance"));
}

TEST_F(PackedClip, RefusesWhatItCannotBe) {
  const auto packed = pack<int8>(golden());
  save_packed_clip(packed, ClipNames::open_clip, path_);
  const auto sound = test::read_text(path_);
  const auto refusal = [&](const std::string& bytes) {
    test::write_text(path_, bytes);
    return message_of<FormatError>([&] { (void)load_packed_clip<int8>(open_packed_clip(path_)); });
  };
  EXPECT_EQ(refusal(sound), "nothing thrown");
  EXPECT_THAT(message_of<FormatError>([&] { (void)load_packed_clip<int4>(open_packed_clip(path_)); }),
              HasSubstr("is packed as int8, wanted int4; there is no way back"));
  auto damaged = sound;
  damaged[damaged.size() / 2] ^= 1;
  EXPECT_THAT(refusal(damaged), HasSubstr("checksum"));

  const auto with = [&](const std::string& name, const nlohmann::json& value) {
    test::write_text(path_, sound);
    const CheckpointReader reader(path_);
    SafeTensorsWriter writer;
    for (const auto& entry : reader.file().entries())
      writer.add_bytes(entry.name, entry.dtype, entry.shape, entry.bytes);
    for (const auto& [key, text] : reader.file().metadata()) {
      if (key != detail::kPackedClipKey) {
        writer.add_metadata(key, text);
        continue;
      }
      auto json = nlohmann::json::parse(text);
      json.erase(name);
      if (!value.is_discarded()) json[name] = value;
      writer.add_metadata(key, json.dump());
    }
    const auto bytes = writer.bytes();
    return refusal({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  };
  EXPECT_EQ(with("patch", packed.options.patch), "nothing thrown");
  EXPECT_THAT(with("patch", nlohmann::json(nlohmann::json::value_t::discarded)), HasSubstr("«patch» is missing"));
  EXPECT_THAT(with("pach", 3), HasSubstr("options that this version does not know"));
  EXPECT_THAT(with("patch", 1.5), HasSubstr("«patch» has another type"));
  EXPECT_THAT(with("patch", 0), HasSubstr("a size is 0"));
  EXPECT_THAT(with("text.num_layers", 1'000'000'000), HasSubstr("a count is 1000000000"));
  EXPECT_THAT(with("vocabulary", 1 << 20), HasSubstr("misshapen"));
  EXPECT_THAT(with("vision.activation", 2), HasSubstr("«vision.activation» is 2"));
  std::filesystem::copy_file(gatefold::test::test_data("clip/quick/model.safetensors"), path_,
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(message_of<FormatError>([&] { (void)open_packed_clip(path_); }), HasSubstr("is no packed CLIP"));
}

}  // namespace
}  // namespace gatefold
