// Draws the pictures that zero_shot shows without arguments, from photos that training never sees. See --help.
#include <cstdio>

#include "command_line.hpp"
#include "gatefold/image/encode.hpp"
#include "gatefold/io/atomic_file.hpp"
#include "wardrobe/caption.hpp"
#include "wardrobe/free_caption.hpp"
#include "wardrobe/render.hpp"
#include "wardrobe/sampler.hpp"
#include "zero_shot/samples.hpp"

namespace {

using namespace wardrobe;
using C = ObjectClass;
using K = Colour;
using P = Pattern;

struct Thing {
  C object_class{};
  K colour{};
  P pattern{};
};
/// A picture: its label set and one object, or two of which the first is above the second.
struct Plan {
  std::string label_set;
  std::vector<Thing> objects;
};

std::vector<Plan> plans() {
  return {
      {"garments", {{C::bag, K::pink, P::plain}}},
      {"garments", {{C::ankle_boot, K::yellow, P::plain}}},
      {"garments", {{C::trousers, K::yellow, P::plain}}},
      {"garments", {{C::dress, K::brown, P::plain}}},
      {"garments", {{C::sneaker, K::pink, P::plain}}},
      {"garments", {{C::pullover, K::green, P::plain}}},
      {"patterns", {{C::dress, K::red, P::dotted}}},
      {"patterns", {{C::pullover, K::red, P::striped}}},
      {"shapes", {{C::circle, K::red, P::plain}}},
      {"shapes", {{C::heart, K::purple, P::plain}}},
      {"a dress and a bag", {{C::dress, K::red, P::plain}, {C::bag, K::blue, P::plain}}},
      {"a dress and a star", {{C::dress, K::brown, P::plain}, {C::star, K::yellow, P::plain}}},
  };
}

std::string plain_label(C object_class, K colour) { return label_caption({object_class, colour, {}, {}}); }

/// Two things in one picture: which is above, and which has which colour.
std::vector<std::string> pair_labels(const Plan& plan) {
  const auto& a = plan.objects[0];
  const auto& b = plan.objects[1];
  std::vector<std::string> labels;
  for (const auto& [first, second] : {std::pair(a.colour, b.colour), std::pair(b.colour, a.colour)}) {
    labels.push_back(label_caption(PairLabel{detail::kUpperFirst, a.object_class, first, b.object_class, second}));
    labels.push_back(label_caption(PairLabel{detail::kUpperFirst, b.object_class, second, a.object_class, first}));
  }
  return labels;
}

std::map<std::string, std::vector<std::string>> label_sets() {
  std::map<std::string, std::vector<std::string>> sets;
  for (const auto& [object_class, colours] : std::vector<std::pair<C, std::vector<K>>>{
           {C::bag, {K::pink, K::yellow, K::brown}},
           {C::ankle_boot, {K::yellow, K::brown, K::blue}},
           {C::sneaker, {K::yellow, K::pink}},
           {C::trousers, {K::yellow, K::blue}},
           {C::dress, {K::brown, K::pink, K::yellow}},
           {C::coat, {K::blue, K::green}},
           {C::pullover, {K::green, K::blue}},
           {C::t_shirt, {K::pink, K::blue}},
       })
    for (const K colour : colours) sets["garments"].push_back(plain_label(object_class, colour));
  for (const C object_class : {C::dress, C::pullover, C::bag})
    for (const K colour : {K::red, K::blue})
      for (const P pattern : {P::plain, P::striped, P::dotted})
        sets["patterns"].push_back(label_caption({object_class, colour, pattern, {}}));
  for (const C object_class : {C::circle, C::heart, C::star, C::ring})
    for (const K colour : {K::red, K::purple, K::orange}) sets["shapes"].push_back(plain_label(object_class, colour));
  for (const Plan& plan : plans())
    if (plan.objects.size() == 2) sets[plan.label_set] = pair_labels(plan);
  return sets;
}

std::string label_of(const Plan& plan) {
  const auto& object = plan.objects[0];
  if (plan.objects.size() == 2) return pair_labels(plan)[0];
  if (plan.label_set != "patterns") return plain_label(object.object_class, object.colour);
  return label_caption({object.object_class, object.colour, object.pattern, {}});
}

Scene scene_of(const Plan& plan, const Photos& photos, gatefold::Rng& rng) {
  const auto& first = plan.objects[0];
  Scene scene = wardrobe::scene_of(first.object_class, first.colour, first.pattern, photos, rng);
  if (plan.objects.size() == 1) return scene;
  scene.object_count = 2;
  for (std::size_t i = 0; i < 2; ++i) {
    Object& object = scene.objects[i];
    object.object_class = plan.objects[i].object_class;
    object.colour = plan.objects[i].colour;
    object.pattern = plan.objects[i].pattern;
    detail::draw_looks(object, photos, rng);
    detail::place_in_half(object, i == 0 ? 12.f : 36.f, rng);
  }
  detail::draw_background(scene, rng);
  return scene;
}

int run_main(int argc, char** argv) {
  std::filesystem::path out = "samples", fashion_mnist = kDebianFashionMnist;
  std::uint64_t seed = 7;
  CLI::App app(
      "Draws a dozen pictures of the wardrobe world, from Fashion-MNIST's test photos, and a manifest with the labels "
      "to choose among and the right one. Most show combinations that training never sees.\n"
      "Example:\n"
      "  make_samples --out examples/samples      the pictures that are shipped\n");
  app.add_option("--out", out, "folder for the PNG files and manifest.json")->capture_default_str();
  app.add_option("--seed", seed, "of photos, places and backgrounds")->capture_default_str();
  app.add_option("--fashion-mnist", fashion_mnist, "folder of the four idx .gz files, if not Debian's package");
  if (!gatefold::parse_command_line(app, "make_samples", argc, argv)) return gatefold::kDone;
  const auto data = load_fashion_mnist(fashion_mnist);
  std::filesystem::create_directories(out);
  zero_shot::Manifest manifest{
      .made_by = "make_samples --seed " + std::to_string(seed), .label_sets = label_sets(), .pictures = {}};
  std::uint64_t stream = 0;
  for (const Plan& plan : plans()) {
    gatefold::Rng rng(seed, stream++);
    auto image = gatefold::Image::of_size({kCanvasEdge, kCanvasEdge});
    render(scene_of(plan, data.test, rng), data.test, image.rgb);
    const std::string label = label_of(plan);
    std::string file = label.substr(label.starts_with("a ") ? 2 : label.starts_with("an ") ? 3 : 0) + ".png";
    std::replace(file.begin(), file.end(), ' ', '-');
    gatefold::write_png(image, out / file);
    manifest.pictures.push_back({file, plan.label_set, label});
    std::printf("%-42s %s\n", file.c_str(), seen_in_training(label) == Seen::yes ? "seen" : "never seen");
  }
  gatefold::write_file(out / "manifest.json", to_json(manifest));
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return gatefold::run_program("make_samples", run_main, argc, argv); }
