#include "wardrobe/render.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace wardrobe {
namespace {

/// Signed distances to the outlines, negative inside, in the frame where the object spans [-1, 1] and y points down.
/// Forms after Quilez, «2D distance functions»; all but the heart's are exact.
template <ObjectClass kShape>
struct Outline;

template <>
struct Outline<ObjectClass::circle> {
  static float distance(float x, float y) { return std::sqrt(x * x + y * y) - 0.95f; }
};
template <>
struct Outline<ObjectClass::ring> {
  static float distance(float x, float y) { return std::abs(std::sqrt(x * x + y * y) - 0.74f) - 0.21f; }
};

float box_distance(float x, float y, float half_width, float half_height) {
  const float dx = std::abs(x) - half_width, dy = std::abs(y) - half_height;
  const float out_x = std::max(dx, 0.f), out_y = std::max(dy, 0.f);
  return std::sqrt(out_x * out_x + out_y * out_y) + std::min(std::max(dx, dy), 0.f);
}
template <>
struct Outline<ObjectClass::square> {
  static float distance(float x, float y) { return box_distance(x, y, 0.8f, 0.8f); }
};
template <>
struct Outline<ObjectClass::cross> {
  static float distance(float x, float y) {
    return std::min(box_distance(x, y, 0.92f, 0.28f),
                    box_distance(x, y, 0.28f, 0.92f));  // exact outside, a bound inside
  }
};

/// Squared distance to the segment from (ax, ay) along (ex, ey).
float squared_distance_to_segment(float x, float y, float ax, float ay, float ex, float ey) {
  const float px = x - ax, py = y - ay;
  const float t = std::clamp((px * ex + py * ey) / (ex * ex + ey * ey), 0.f, 1.f);
  const float dx = px - t * ex, dy = py - t * ey;
  return dx * dx + dy * dy;
}
template <>
struct Outline<ObjectClass::diamond> {  // a tall rhombus, so that no rotation of the square looks like it
  static constexpr float kHalfWidth = 0.58f, kHalfHeight = 0.98f;
  static float distance(float x, float y) {
    x = std::abs(x), y = std::abs(y);
    const float d = squared_distance_to_segment(x, y, kHalfWidth, 0, -kHalfWidth, kHalfHeight);
    return std::copysign(std::sqrt(d), x * kHalfHeight + y * kHalfWidth - kHalfWidth * kHalfHeight);
  }
};
template <>
struct Outline<ObjectClass::triangle> {  // apex up
  static constexpr float kTop = -0.88f, kBase = 0.76f, kHalfWidth = 0.95f;
  static float distance(float x, float y) {
    x = std::abs(x);
    const float side = squared_distance_to_segment(x, y, 0, kTop, kHalfWidth, kBase - kTop);
    const float base = squared_distance_to_segment(x, y, 0, kBase, kHalfWidth, 0);
    const float outside = std::max(y - kBase, x * (kBase - kTop) - (y - kTop) * kHalfWidth);
    return std::copysign(std::sqrt(std::min(side, base)), outside);
  }
};
template <>
struct Outline<ObjectClass::star> {  // one point up; mirrors fold the ten half points onto one edge
  static constexpr float kOuter = 1.0f, kInner = 0.46f, kDrop = 0.05f;
  static float distance(float x, float y) {
    constexpr float c36 = 0.809016994f, s36 = 0.587785252f;
    x = std::abs(x), y = kDrop - y;
    float fold = 2 * std::max(c36 * x - s36 * y, 0.f);
    x -= fold * c36, y += fold * s36;
    fold = 2 * std::max(-c36 * x - s36 * y, 0.f);
    x = std::abs(x + fold * c36), y += fold * s36;
    constexpr float ex = kInner * s36, ey = kInner * c36 - kOuter;
    const float d = squared_distance_to_segment(x, y, 0, kOuter, ex, ey);
    return std::copysign(std::sqrt(d), (y - kOuter) * ex - x * ey);
  }
};
template <>
struct Outline<ObjectClass::heart> {  // a square on its corner with a half disc on each upper side
  static constexpr float kScale = 1.62f, kMiddle = 0.55f;
  static float distance(float x, float y) {
    x = std::abs(x) / kScale, y = kMiddle - y / kScale;
    if (x + y > 1) {
      constexpr float radius = 0.353553391f;
      return (std::sqrt((x - 0.25f) * (x - 0.25f) + (y - 0.75f) * (y - 0.75f)) - radius) * kScale;
    }
    const float along = 0.5f * std::max(x + y, 0.f);
    const float notch = x * x + (y - 1) * (y - 1), edge = (x - along) * (x - along) + (y - along) * (y - along);
    return std::copysign(std::sqrt(std::min(notch, edge)), x - y) * kScale;
  }
};

/// A fast scrambler for texture noise (Wellons' lowbias32); Philox would cost more than the rest of the image.
constexpr std::uint32_t scramble(std::uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352d;
  x = (x ^ (x >> 15)) * 0x846ca68b;
  return x ^ (x >> 16);
}

std::uint8_t to_byte(float value) { return static_cast<std::uint8_t>(std::clamp(value, 0.f, 255.f) + 0.5f); }

std::array<float, 3> tinted(Colour colour, const std::array<float, 3>& tint) {
  auto rgb = kPalette[static_cast<std::size_t>(colour)];
  for (std::size_t c = 0; c < 3; ++c) rgb[c] += tint[c];
  return rgb;
}

void fill_background(const Scene& scene, std::span<std::uint8_t> out) {  // out [48, 48, 3]
  const auto rgb = tinted(scene.background, scene.background_tint);
  const std::uint32_t seed = scene.texture_seed;
  const float slope_x = static_cast<float>(seed % 3) - 1, slope_y = static_cast<float>(seed / 3 % 3) - 1;
  for (Index y = 0; y < kCanvasEdge; ++y) {
    for (Index x = 0; x < kCanvasEdge; ++x) {
      float lift = 0;
      switch (scene.texture) {
        case Texture::none:
          break;
        case Texture::grain:
          lift = static_cast<float>(scramble(seed + static_cast<std::uint32_t>(y * kCanvasEdge + x)) & 31) - 15.5f;
          break;
        case Texture::weave:
          lift = (x / 2 + y / 2) % 2 == 0 ? 7.f : -7.f;
          break;
        case Texture::shade:
          lift = 0.36f * (slope_x * (static_cast<float>(x) - 23.5f) + slope_y * (static_cast<float>(y) - 23.5f));
          break;
      }
      const auto pixel = out.subspan(static_cast<std::size_t>((y * kCanvasEdge + x) * 3), 3);
      for (std::size_t c = 0; c < 3; ++c) pixel[c] = to_byte(rgb[c] + lift);
    }
  }
}

/// The second colour of stripes and dots: dark on light colours, light on the others, far enough from both black and
/// white that a striped white thing differs from a striped black one.
std::array<float, 3> second_colour(Colour colour, const std::array<float, 3>& rgb) {
  const bool light = colour == Colour::white || colour == Colour::yellow;
  const float towards = light ? 40.f : colour == Colour::black ? 205.f : 255.f, weight = light ? 0.6f : 0.78f;
  std::array<float, 3> second{};
  for (std::size_t c = 0; c < 3; ++c) second[c] = rgb[c] + weight * (towards - rgb[c]);
  return second;
}

/// How much of the second colour lies at (u, v), pixels in the object's own frame; edges are one pixel soft.
float pattern_weight(const Object& object, float u, float v) {
  const float period = object.pattern_period;
  const auto from_middle = [&](float t) { return t - period * std::floor(t / period) - 0.5f * period; };
  if (object.pattern == Pattern::striped) {
    return std::clamp(0.21f * period + 0.5f - std::abs(from_middle(u + object.pattern_phase)), 0.f, 1.f);
  }
  const float row = std::floor((v + object.pattern_phase) / period);  // every second row of dots is shifted
  const float across = from_middle(u + object.pattern_phase + (std::fmod(row, 2.f) == 0 ? 0.f : 0.5f * period));
  const float along = from_middle(v + object.pattern_phase);
  return std::clamp(0.3f * period + 0.5f - std::sqrt(across * across + along * along), 0.f, 1.f);
}

/// Coverage and lightness of a thing at a point of its own frame.
struct Surface {
  float coverage, lightness;
};

/// Blends the object over the canvas; `surface(u, v)` takes pixels relative to its centre, along its own axes.
template <class SurfaceAt>
void blend(const Object& object, const SurfaceAt& surface, std::span<std::uint8_t> out) {
  const float sine = std::sin(object.rotation), cosine = std::cos(object.rotation);
  const float reach = 0.5f * object.size * (std::abs(sine) + std::abs(cosine)) + 1;
  const auto clip = [](float at) { return static_cast<Index>(std::clamp(at, 0.f, static_cast<float>(kCanvasEdge))); };
  const auto rgb = tinted(object.colour, object.tint), second = second_colour(object.colour, rgb);
  const float pattern_sine = std::sin(object.pattern_angle), pattern_cosine = std::cos(object.pattern_angle);
  for (Index y = clip(object.centre_y - reach); y < clip(object.centre_y + reach + 1); ++y) {
    const float from_y = static_cast<float>(y) + 0.5f - object.centre_y;
    for (Index x = clip(object.centre_x - reach); x < clip(object.centre_x + reach + 1); ++x) {
      const float from_x = static_cast<float>(x) + 0.5f - object.centre_x;
      const float u = cosine * from_x + sine * from_y, v = cosine * from_y - sine * from_x;
      const auto [coverage, lightness] = surface(u * object.mirror, v);
      if (!(coverage > 0)) continue;
      const float weight =
          object.pattern == Pattern::plain
              ? 0.f
              : pattern_weight(object, pattern_cosine * u + pattern_sine * v, pattern_cosine * v - pattern_sine * u);
      const auto pixel = out.subspan(static_cast<std::size_t>((y * kCanvasEdge + x) * 3), 3);
      for (std::size_t c = 0; c < 3; ++c) {
        const float base = rgb[c] + weight * (second[c] - rgb[c]);
        // The added part lets the folds of a black garment show.
        const float lit = base * lightness + 45 * (lightness - 1), below = static_cast<float>(pixel[c]);
        pixel[c] = to_byte(below + coverage * (lit - below));
      }
    }
  }
}

template <ObjectClass kShape>
void draw_shape(const Object& object, std::span<std::uint8_t> out) {
  const float half = 0.5f * object.size, scale = 1 / half;
  blend(
      object,
      [=](float u, float v) {
        const float distance = half * Outline<kShape>::distance(u * scale, v * scale);
        return Surface{std::clamp(0.5f - distance, 0.f, 1.f), 1};
      },
      out);
}

/// Samples the photo bilinearly; dark means transparent, and lightness is relative to the garment's mean, so that a
/// dark photo takes the colour as well as a bright one.
void draw_garment(const Object& object, const Photos& photos, std::span<std::uint8_t> out) {
  constexpr Index kRow = kPhotoEdge + 3;  // one dark pixel before, two behind: no sample looks outside
  std::array<float, kRow * kRow> padded{};
  const auto photo = photos.photo(object.photo);
  for (Index y = 0; y < kPhotoEdge; ++y) {
    for (Index x = 0; x < kPhotoEdge; ++x) {
      padded[static_cast<std::size_t>((y + 1) * kRow + x + 1)] = photo[static_cast<std::size_t>(y * kPhotoEdge + x)];
    }
  }
  const float mean = photos.mean_lightness[static_cast<std::size_t>(object.photo)];
  const float opaque = 1 / std::clamp(0.5f * mean, 10.f, 45.f), scale = static_cast<float>(kPhotoEdge) / object.size;
  blend(
      object,
      [&](float u, float v) {
        const float x = std::clamp(u * scale + 14.5f, 0.f, 29.f), y = std::clamp(v * scale + 14.5f, 0.f, 29.f);
        const Index column = static_cast<Index>(x), row = static_cast<Index>(y);
        const float fx = x - static_cast<float>(column), fy = y - static_cast<float>(row);
        const float* at = padded.data() + row * kRow + column;
        const float upper = at[0] + fx * (at[1] - at[0]), lower = at[kRow] + fx * (at[kRow + 1] - at[kRow]);
        const float value = upper + fy * (lower - upper);
        return Surface{std::clamp((value - 5) * opaque, 0.f, 1.f),
                       std::clamp(1 + 0.0034f * (value - mean), 0.6f, 1.2f)};
      },
      out);
}

void draw(const Object& object, const Photos& photos, std::span<std::uint8_t> out) {
  switch (object.object_class) {
    case ObjectClass::circle:
      return draw_shape<ObjectClass::circle>(object, out);
    case ObjectClass::square:
      return draw_shape<ObjectClass::square>(object, out);
    case ObjectClass::triangle:
      return draw_shape<ObjectClass::triangle>(object, out);
    case ObjectClass::star:
      return draw_shape<ObjectClass::star>(object, out);
    case ObjectClass::heart:
      return draw_shape<ObjectClass::heart>(object, out);
    case ObjectClass::cross:
      return draw_shape<ObjectClass::cross>(object, out);
    case ObjectClass::ring:
      return draw_shape<ObjectClass::ring>(object, out);
    case ObjectClass::diamond:
      return draw_shape<ObjectClass::diamond>(object, out);
    default:
      return draw_garment(object, photos, out);
  }
}

}  // namespace

void render(const Scene& scene, const Photos& photos, std::span<std::uint8_t> out) {
  if (std::ssize(out) != kCanvasBytes) {
    throw std::invalid_argument("wardrobe::render: out holds " + std::to_string(out.size()) + " bytes, expected " +
                                std::to_string(kCanvasBytes));
  }
  fill_background(scene, out);
  for (Index i = 0; i < scene.object_count; ++i) {
    const Object& object = scene.objects[static_cast<std::size_t>(i)];
    if (is_garment(object.object_class) && (object.photo < 0 || object.photo >= std::ssize(photos.labels))) {
      throw std::invalid_argument("wardrobe::render: photo " + std::to_string(object.photo) + ", the split holds " +
                                  std::to_string(photos.labels.size()));
    }
    draw(object, photos, out);
  }
}

}  // namespace wardrobe
