#pragma once
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>

namespace zero_shot {

using Json = nlohmann::ordered_json;

/// What is not a number becomes null, bytes that are not UTF-8 become U+FFFD.
inline std::string dump(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

/// One JSON object, written as its parts come: members, then a list item by item, then more members. The bytes are
/// those that dump(2) makes of the whole.
class JsonStream {
 public:
  explicit JsonStream(std::ostream& out) : out_(out) { out_ << "{"; }
  void member(const std::string& name, const Json& value) {
    next(name);
    write(value, 2);
  }
  void begin_list(const std::string& name) {
    next(name);
    out_ << "[";
    items_ = 0;
  }
  void item(const Json& value) {
    out_ << (items_++ == 0 ? "\n    " : ",\n    ");
    write(value, 4);
  }
  void end_list() { out_ << (items_ > 0 ? "\n  ]" : "]"); }
  void end() { out_ << "\n}\n"; }

 private:
  void next(const std::string& name) { out_ << (members_++ == 0 ? "\n  " : ",\n  ") << dump(Json(name)) << ": "; }
  void write(const Json& value, std::size_t indent) {  // line ends stand between values only, never within a text
    for (const char c : dump(value, 2)) {
      out_ << c;
      if (c == '\n') out_ << std::string(indent, ' ');
    }
  }

  std::ostream& out_;
  std::size_t members_ = 0, items_ = 0;
};

}  // namespace zero_shot
