#include "gatefold/image/decode.hpp"
#include "gatefold/image/encode.hpp"

int main() {
  gatefold::Image image{.width = 2, .height = 1, .rgb = {255, 0, 0, 0, 0, 255}};
  return gatefold::decode_image(gatefold::encode_png(image)).rgb == image.rgb ? 0 : 1;
}
