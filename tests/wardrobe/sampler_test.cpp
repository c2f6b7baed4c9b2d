#include "wardrobe/sampler.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "fake_photos.hpp"
#include "wardrobe/free_caption.hpp"

namespace wardrobe {
namespace {

bool is_seen(const Scene& scene) {
  for (Index i = 0; i < scene.object_count; ++i) {
    const Object& o = scene.objects[static_cast<std::size_t>(i)];
    if (!seen_in_training(o.object_class, o.colour, o.pattern)) return false;
  }
  return true;
}

/// Whether either object of a sentence about two is a held-out combination.
bool names_held_out(const std::string& text) {
  for (const std::string link : {" above ", " below ", " and "}) {
    const std::size_t at = text.find(link);
    if (at == std::string::npos) continue;
    return seen_in_training(text.substr(0, at)) != Seen::yes ||
           seen_in_training(text.substr(at + link.size())) != Seen::yes;
  }
  return true;
}

TEST(MakeSample, IsAPureFunctionOfItsKey) {
  const Photos photos = fake::photos();
  const Sample sample = make_sample({.seed = 7, .index = 123456}, photos);
  make_sample({.seed = 7, .index = 5}, photos);
  const Sample again = make_sample({.seed = 7, .index = 123456}, photos);
  EXPECT_EQ(sample.scene, again.scene);
  EXPECT_EQ(sample.caption.text, again.caption.text);
  EXPECT_NE(sample.scene, make_sample({.seed = 7, .index = 123457}, photos).scene);
  EXPECT_NE(sample.scene, make_sample({.seed = 8, .index = 123456}, photos).scene);
}

TEST(MakeSample, ShowsAndNamesNothingHeldOutInAHundredThousand) {
  const Photos photos = fake::photos();
  std::set<std::array<Index, 3>> shown;
  for (std::uint64_t i = 0; i < 100000; ++i) {
    const Sample sample = make_sample({.seed = 1, .index = i}, photos);
    ASSERT_TRUE(is_seen(sample.scene)) << i;
    ASSERT_NE(sample.scene.objects[0].colour, sample.scene.background);
    for (Index o = 0; o < sample.scene.object_count; ++o) {
      const Object& object = sample.scene.objects[static_cast<std::size_t>(o)];
      shown.insert({static_cast<Index>(object.object_class), static_cast<Index>(object.colour),
                    static_cast<Index>(object.pattern)});
    }
    if (i % 8 == 0) {
      ASSERT_NE(seen_in_training(sample.caption.text), Seen::no) << sample.caption.text;
      if (!sample.caption.swapped.empty()) {
        ASSERT_FALSE(names_held_out(sample.caption.swapped));
      }
    }
  }
  std::size_t seen = 0;
  for (Index i = 0; i < kClassCount * kColourCount * kPatternCount; ++i) {
    seen += seen_in_training(static_cast<ObjectClass>(i / 30), static_cast<Colour>(i / 3 % 10),
                             static_cast<Pattern>(i % 3));
  }
  EXPECT_EQ(shown.size(), seen) << "and everything that is not held out is shown";
}

TEST(MakeSample, ObjectsStayOnTheCanvasAndPhotosInTheirClass) {
  const Photos photos = fake::photos(2);
  for (std::uint64_t i = 0; i < 5000; ++i) {
    const Scene scene = make_sample({.seed = 2, .index = i}, photos).scene;
    for (Index o = 0; o < scene.object_count; ++o) {
      const Object& object = scene.objects[static_cast<std::size_t>(o)];
      if (is_garment(object.object_class)) {
        EXPECT_EQ(photos.labels[static_cast<std::size_t>(object.photo)],
                  static_cast<std::uint8_t>(object.object_class));
      }
      const float half = 0.5f * object.size;
      EXPECT_GE(object.centre_x - half, -2.01f);
      EXPECT_LE(object.centre_x + half, 50.01f);
      EXPECT_GE(object.centre_y - half, -2.01f);
      EXPECT_LE(object.centre_y + half, 50.01f);
      EXPECT_TRUE(scene.object_count == 1 ? object.size >= 24 && object.size <= 44
                                          : object.size >= 20 && object.size <= 25 && object.pattern == Pattern::plain);
    }
    if (scene.object_count == 2) {
      EXPECT_GT(scene.objects[1].centre_y - scene.objects[0].centre_y, 21);
    }
  }
}

TEST(MakeBatch, HoldsNoCaptionTwiceAndNegativesThatAreNoCaptions) {
  const Photos photos = fake::photos();
  for (const Index size : {1, 256, 1024}) {
    for (std::uint64_t step = 0; step < 20; ++step) {
      const Batch batch = make_batch({.seed = 3, .step = step, .size = size}, photos);
      ASSERT_EQ(std::ssize(batch.scenes), size);
      std::set<std::string> texts;
      for (const Caption& caption : batch.captions) texts.insert(caption.text);
      EXPECT_EQ(std::ssize(texts), size);
      ASSERT_EQ(batch.extra_negatives.size(), batch.negative_owner.size());
      for (std::size_t x = 0; x < batch.extra_negatives.size(); ++x) {
        const auto owner = static_cast<std::size_t>(batch.negative_owner[x]);
        EXPECT_EQ(batch.scenes[owner].object_count, 2);
        EXPECT_EQ(batch.captions[owner].swapped, batch.extra_negatives[x]);
        EXPECT_TRUE(texts.insert(batch.extra_negatives[x]).second);
      }
      EXPECT_TRUE(std::all_of(batch.scenes.begin(), batch.scenes.end(), is_seen));
    }
  }
}

TEST(MakeBatch, IsAPureFunctionOfItsKeyAndScenesDoNotDependOnTheSize) {
  const Photos photos = fake::photos();
  const BatchKey key{.seed = 4, .step = 77, .size = 128};
  const Batch batch = make_batch(key, photos), again = make_batch(key, photos);
  EXPECT_EQ(batch.scenes, again.scenes);
  EXPECT_EQ(batch.extra_negatives, again.extra_negatives);
  const Batch larger = make_batch({.seed = 4, .step = 77, .size = 200}, photos);
  for (std::size_t i = 0; i < 128; ++i) {
    EXPECT_EQ(batch.captions[i].text, again.captions[i].text);
    EXPECT_EQ(batch.captions[i].text, larger.captions[i].text);
    EXPECT_EQ(batch.scenes[i], larger.scenes[i]);
  }
  const Batch next = make_batch({.seed = 4, .step = 78, .size = 128}, photos);
  for (std::size_t i = 0; i < 128; ++i) {
    for (std::size_t j = 0; j < 128; ++j) ASSERT_NE(batch.scenes[i], next.scenes[j]);
  }
}

TEST(MakeBatch, KeepsTheSharesOfItsWorld) {
  const Photos photos = fake::photos();
  constexpr int kSteps = 400, kSize = 64;
  int one_colour = 0, pairs = 0, shared = 0, in_one_colour = 0;
  for (std::uint64_t step = 0; step < kSteps; ++step) {
    const Batch batch = make_batch({.seed = 5, .step = step, .size = kSize}, photos);
    one_colour += batch.shared_colour.has_value();
    for (const Scene& scene : batch.scenes) {
      pairs += scene.object_count == 2;
      if (!batch.shared_colour) continue;
      ++in_one_colour;
      shared += scene.objects[0].colour == batch.shared_colour ||
                (scene.object_count == 2 && scene.objects[1].colour == batch.shared_colour);
    }
  }
  EXPECT_NEAR(one_colour, 0.6 * kSteps, 4 * std::sqrt(0.24 * kSteps));
  EXPECT_NEAR(pairs, 0.3 * kSteps * kSize, 4 * std::sqrt(0.21 * kSteps * kSize));
  // 85 % on purpose and 10 % (one object) or about 20 % (two) of the rest by chance.
  EXPECT_NEAR(static_cast<double>(shared) / in_one_colour, 0.85 + 0.15 * 0.13, 0.015);
}

TEST(MakeBatch, OneColourBatchesDoNotNameTheColourAlone) {
  const Photos photos = fake::photos();
  for (std::uint64_t step = 0; step < 50; ++step) {
    const Batch batch = make_batch({.seed = 6, .step = step, .size = 256}, photos);
    if (!batch.shared_colour) continue;
    for (const Caption& caption : batch.captions) {
      const Meaning only_colour{{}, batch.shared_colour, {}, {}};
      EXPECT_FALSE(caption.swapped.empty() && caption.meaning == only_colour) << caption.text;
    }
  }
}

TEST(MakeBatch, RefusesImpossibleSizes) {
  const Photos photos = fake::photos();
  EXPECT_THROW(make_batch({.size = 0}, photos), std::invalid_argument);
  EXPECT_THROW(make_batch({.size = -5}, photos), std::invalid_argument);
  EXPECT_THROW(make_batch({.size = (Index{1} << 20) + 1}, photos), std::invalid_argument);
}

TEST(TruePairs, HoldWhatTheTextsSay) {
  const auto photos = fake::photos();
  const auto batch = make_batch({.seed = 5, .step = 2, .size = 128}, photos);
  const auto pairs = true_pairs(batch);
  ASSERT_EQ(pairs.extent(1), 128 + std::ssize(batch.extra_negatives));
  Index others = 0;
  for (Index i = 0; i < 128; ++i) {
    EXPECT_EQ(pairs.view()(i, i), 1) << "a caption is true of its own scene";
    for (Index j = 0; j < 128; ++j) others += i != j && pairs.view()(i, j);
  }
  EXPECT_GT(others, 128) << "a caption that names only the class is true of many";
  for (Index x = 0; x < std::ssize(batch.extra_negatives); ++x)
    EXPECT_EQ(pairs.view()(batch.negative_owner[static_cast<std::size_t>(x)], 128 + x), 0)
        << "the colours exchanged, it is false of the scene it was made from";

  // One scene against texts whose truth is plain to see.
  Scene scene;
  scene.objects[0].object_class = ObjectClass::dress, scene.objects[0].colour = Colour::red;
  scene.objects[0].pattern = Pattern::striped, scene.background = Colour::blue;
  const auto holds = [&](const Meaning& meaning) {
    return also_true(Caption{.text = {}, .meaning = meaning, .swapped = {}}, Scene{}, scene);
  };
  EXPECT_TRUE(holds({ObjectClass::dress, {}, {}, {}}));
  EXPECT_TRUE(holds({ObjectClass::dress, Colour::red, Pattern::striped, Colour::blue}));
  EXPECT_FALSE(holds({ObjectClass::dress, Colour::blue, {}, {}}));
  EXPECT_FALSE(holds({ObjectClass::dress, {}, Pattern::plain, {}}));
  EXPECT_FALSE(holds({ObjectClass::coat, {}, {}, {}}));
  EXPECT_FALSE(holds({{}, {}, {}, Colour::red}));
}

}  // namespace
}  // namespace wardrobe
