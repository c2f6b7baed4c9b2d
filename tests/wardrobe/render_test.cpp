#include "wardrobe/render.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "fake_photos.hpp"

namespace wardrobe {
namespace {

using Image = std::vector<std::uint8_t>;

Image rendered(const Scene& scene, const Photos& photos = fake::photos()) {
  Image image(kCanvasBytes);
  render(scene, photos, image);
  return image;
}

/// A white thing in the middle of a black canvas, untinted.
Scene white_on_black(ObjectClass object_class, float size = 40) {
  Scene scene;
  scene.objects[0].object_class = object_class;
  scene.objects[0].colour = Colour::white;
  scene.objects[0].size = size;
  scene.background = Colour::black;
  return scene;
}

std::uint8_t at(const Image& image, Index x, Index y, Index c = 0) {
  return image[static_cast<std::size_t>((y * kCanvasEdge + x) * 3 + c)];
}

/// Share of the object in the red channel of a pixel of white on black.
double coverage(const Image& image, Index x, Index y) { return (at(image, x, y) - 26.0) / (244.0 - 26.0); }

double covered_area(const Image& image) {
  double area = 0;
  for (Index y = 0; y < kCanvasEdge; ++y) {
    for (Index x = 0; x < kCanvasEdge; ++x) area += coverage(image, x, y);
  }
  return area;
}

/// Area and outline length for half an edge of 1, and the number of corners.
struct Measure {
  ObjectClass object_class;
  double area, outline;
  int corners;
};

std::vector<Measure> measures() {
  using std::numbers::pi;
  const double star_edge = std::hypot(0.46 * std::sin(pi / 5), 1 - 0.46 * std::cos(pi / 5));
  return {{ObjectClass::circle, pi * 0.95 * 0.95, 2 * pi * 0.95, 0},
          {ObjectClass::ring, pi * (0.95 * 0.95 - 0.53 * 0.53), 2 * pi * (0.95 + 0.53), 0},
          {ObjectClass::square, 1.6 * 1.6, 4 * 1.6, 4},
          {ObjectClass::cross, 2 * 1.84 * 0.56 - 0.56 * 0.56, 4 * 1.84, 12},
          {ObjectClass::diamond, 2 * 0.58 * 0.98, 4 * std::hypot(0.58, 0.98), 4},
          {ObjectClass::triangle, 0.95 * 1.64, 1.9 + 2 * std::hypot(0.95, 1.64), 3},
          {ObjectClass::star, 5 * 0.46 * std::sin(pi / 5), 10 * star_edge, 10},
          {ObjectClass::heart, (0.5 + pi / 8) * 1.62 * 1.62, (2 * std::sqrt(0.5) + pi * std::sqrt(0.5)) * 1.62, 2}};
}

TEST(Render, ShapesCoverTheirArea) {
  for (const auto& m : measures()) {
    for (const float size : {22.f, 31.f, 40.f}) {
      for (const float rotation : {0.f, 0.13f, 0.3f}) {
        Scene scene = white_on_black(m.object_class, size);
        scene.objects[0].rotation = rotation;
        scene.objects[0].centre_x = 24.3f;
        const double half = 0.5 * static_cast<double>(size);
        // Along an edge the ramp of one pixel is off by at most 1/16 pixel (straight edge on the grid), half of which
        // averages out; a corner costs at most half a pixel.
        EXPECT_NEAR(covered_area(rendered(scene)), m.area * half * half, 0.03 * m.outline * half + 0.5 * m.corners)
            << "class " << static_cast<int>(m.object_class) << " size " << size << " rotation " << rotation;
      }
    }
  }
}

TEST(Render, ShapesHaveSoftEdgesAndFullInsides) {
  const Image image = rendered(white_on_black(ObjectClass::circle));
  int full = 0, soft = 0;
  for (Index y = 0; y < kCanvasEdge; ++y) {
    for (Index x = 0; x < kCanvasEdge; ++x) {
      const double share = coverage(image, x, y);
      full += share == 1;
      soft += share > 0 && share < 1;
    }
  }
  EXPECT_GT(full, 1000);          // of 1134
  EXPECT_NEAR(soft, 2 * 76, 40);  // the circle of radius 19 crosses about 8 r pixels, twice that at most
  EXPECT_EQ(coverage(rendered(white_on_black(ObjectClass::ring)), 24, 24), 0);
}

TEST(Render, UprightShapesPointUp) {
  for (const auto shape : {ObjectClass::triangle, ObjectClass::star}) {
    const Image image = rendered(white_on_black(shape));
    double upper = 0, lower = 0;
    for (Index x = 0; x < kCanvasEdge; ++x) upper += coverage(image, x, 8), lower += coverage(image, x, 37);
    EXPECT_GT(coverage(image, 23, 10), 0.9);
    EXPECT_LT(upper, lower);
  }
  const Image heart = rendered(white_on_black(ObjectClass::heart));
  EXPECT_EQ(coverage(heart, 23, 7), 0);  // the notch
  EXPECT_EQ(coverage(heart, 16, 9), 1);
  EXPECT_EQ(coverage(heart, 23, 38), 1);  // the tip
  EXPECT_EQ(coverage(heart, 12, 38), 0);
}

TEST(Render, AMovedSceneIsAMovedImage) {
  for (const auto object_class : {ObjectClass::dress, ObjectClass::star}) {
    Scene scene = white_on_black(object_class, 30);
    scene.objects[0].pattern = Pattern::dotted;
    scene.objects[0].rotation = 0.25f;
    const Image before = rendered(scene);
    scene.objects[0].centre_x += 3, scene.objects[0].centre_y -= 2;
    const Image after = rendered(scene);
    for (Index y = 2; y < kCanvasEdge; ++y) {
      for (Index x = 0; x + 3 < kCanvasEdge; ++x) EXPECT_NEAR(at(before, x, y), at(after, x + 3, y - 2), 1);
    }
  }
}

TEST(Render, AMirroredGarmentIsAMirroredImage) {
  Photos photos = fake::photos();
  for (Index i = 0; i < kPhotoPixels; ++i) {  // brighter to the right, a step at the left
    photos.pixels[static_cast<std::size_t>(i)] = i % 28 < 9 ? 0 : static_cast<std::uint8_t>(20 + 8 * (i % 28));
  }
  Scene scene = white_on_black(ObjectClass::t_shirt, 37);
  const Image image = rendered(scene, photos);
  scene.objects[0].mirror = -1;
  const Image mirrored = rendered(scene, photos);
  EXPECT_NE(image, mirrored);
  for (Index y = 0; y < kCanvasEdge; ++y) {
    for (Index x = 0; x < kCanvasEdge; ++x) EXPECT_NEAR(at(image, x, y), at(mirrored, 47 - x, y), 1);
  }
}

TEST(Render, GarmentsCoverTheirPhotoAndTakeTheColour) {
  Scene scene = white_on_black(ObjectClass::coat, 42);
  // The block of 20 photo pixels is 30 canvas pixels wide; its bilinear ramp turns opaque early (at a quarter of the
  // lightness), which adds at most one photo pixel, 1.5 canvas pixels, on each side.
  const double area = covered_area(rendered(scene));
  EXPECT_GT(area, 30 * 30);
  EXPECT_LT(area, 33 * 33);
  for (Index k = 0; k < kColourCount; ++k) {
    scene.objects[0].colour = static_cast<Colour>(k);
    const Image image = rendered(scene);
    for (Index c = 0; c < 3; ++c) {
      const auto wanted = kPalette[static_cast<std::size_t>(k)][static_cast<std::size_t>(c)];
      EXPECT_NEAR(at(image, 24, 24, c), wanted, 1) << "a photo's mean lightness is the plain colour";
    }
  }
}

TEST(Render, PatternsTakeTheirShareOfTheSurface) {
  Scene scene = white_on_black(ObjectClass::square, 48);
  scene.objects[0].pattern_phase = 1.7f;
  const double plain = covered_area(rendered(scene));
  // White's second colour is 60 % of the way to 40: 121.6. The rest of the surface stays white.
  const double loss = (244 - (244 + 0.6 * (40 - 244))) / (244 - 26);
  scene.objects[0].pattern = Pattern::striped;
  for (const float angle : {0.f, 0.785398f, 1.570796f}) {
    scene.objects[0].pattern_angle = angle;
    EXPECT_NEAR((plain - covered_area(rendered(scene))) / (plain * loss), 0.42, 0.06) << angle;  // 0.42 of the period
  }
  scene.objects[0].pattern = Pattern::dotted;
  EXPECT_NEAR((plain - covered_area(rendered(scene))) / (plain * loss), std::numbers::pi * 0.3 * 0.3, 0.06);
}

TEST(Render, TheFirstOfTwoIsAbove) {
  Scene scene = white_on_black(ObjectClass::circle, 20);
  scene.background = Colour::yellow;
  scene.object_count = 2;
  scene.objects[0].centre_y = 12, scene.objects[0].colour = Colour::red;
  scene.objects[1] = scene.objects[0];
  scene.objects[1].object_class = ObjectClass::square;
  scene.objects[1].centre_y = 36, scene.objects[1].colour = Colour::blue;
  const Image image = rendered(scene);
  EXPECT_GT(at(image, 24, 12, 0), at(image, 24, 12, 2) + 150);  // red above
  EXPECT_GT(at(image, 24, 36, 2), at(image, 24, 36, 0) + 150);  // blue below
  EXPECT_EQ(at(image, 2, 24, 0), 250);
}

TEST(Render, TexturesStayLightAndKeepTheMean) {
  Scene scene = white_on_black(ObjectClass::circle, 1);
  scene.objects[0].centre_x = -20;  // out of the picture
  scene.background = Colour::purple;
  for (const Texture texture : {Texture::none, Texture::grain, Texture::weave, Texture::shade}) {
    scene.texture = texture;
    scene.texture_seed = 12345;
    const Image image = rendered(scene);
    double sum = 0;
    int distinct = 0;
    for (Index i = 0; i < kCanvasEdge * kCanvasEdge; ++i) {
      const auto value = image[static_cast<std::size_t>(3 * i)];
      EXPECT_NEAR(value, 126, 18);
      sum += value, distinct += value != 126;
    }
    EXPECT_NEAR(sum / (kCanvasEdge * kCanvasEdge), 126, 1);
    EXPECT_EQ(distinct > 0, texture != Texture::none);
  }
}

TEST(Render, IsAPureFunctionOfTheScene) {
  const Photos photos = fake::photos();
  Scene scene = white_on_black(ObjectClass::bag);
  scene.texture = Texture::grain;
  Image first(kCanvasBytes, 1), second(kCanvasBytes, 200);  // what was there before must not matter
  render(scene, photos, first);
  render(scene, photos, second);
  EXPECT_EQ(first, second);
  scene.texture_seed = 1;
  render(scene, photos, second);
  EXPECT_NE(first, second);
}

TEST(Render, RefusesOtherSizesAndPhotosThatAreNotThere) {
  Image small(kCanvasBytes - 1);
  EXPECT_THROW(render(white_on_black(ObjectClass::star), fake::photos(), small), std::invalid_argument);
  Scene scene = white_on_black(ObjectClass::dress);
  for (const Index photo : {-1, 30, 1 << 30}) {
    scene.objects[0].photo = photo;
    EXPECT_THROW(rendered(scene), std::invalid_argument);
  }
}

}  // namespace
}  // namespace wardrobe
