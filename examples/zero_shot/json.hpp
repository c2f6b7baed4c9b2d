#pragma once
#include "zero_shot/json_stream.hpp"
#include "zero_shot/limoe_reader.hpp"

namespace zero_shot {

inline const char* name_of(wardrobe::Seen seen) {
  return seen == wardrobe::Seen::yes ? "yes" : seen == wardrobe::Seen::no ? "no" : "not_a_combination";
}

/// A picture for programs, with at most `top` labels.
Json json_of(const Picture& picture, const Reading& reading, Index top);

/// All pictures in their order, those that cannot be read among them, handed to `take(Json)`.
template <class Take>
void for_each_picture(const Reading& reading, Index top, const Take& take) {
  auto unread = reading.unread.begin();
  for (std::size_t i = 0; i <= reading.pictures.size(); ++i) {
    for (; unread != reading.unread.end() && unread->before == i; ++unread)
      take(Json{{"name", unread->name}, {"fault", unread->fault}, {"labels", Json::array()}});
    if (i < reading.pictures.size()) take(json_of(reading.pictures[i], reading, top));
  }
}

/// One object a line, of a picture each.
inline void write_json_lines(std::ostream& out, const Reading& reading, Index top) {
  for_each_picture(reading, top, [&](const Json& picture) { out << dump(picture) << "\n"; });
}

/// The reading for programs.
void write_json(std::ostream& out, const Reading& reading, const Reader& reader, Index top);

}  // namespace zero_shot
