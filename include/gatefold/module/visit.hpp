#pragma once
#include <array>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "gatefold/core/shared_tensor.hpp"

namespace gatefold {

namespace detail {
template <class T>
inline constexpr bool is_sequence = false;
template <class T, class A>
inline constexpr bool is_sequence<std::vector<T, A>> = true;
template <class T, std::size_t N>
inline constexpr bool is_sequence<std::array<T, N>> = true;
template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;

/// The dotted path of the field at hand. Apart from the visitor, which is compiled anew for each function it carries.
class FieldPath {
 public:
  /// Returns where the path ended, for `leave`.
  [[gnu::noinline]] std::size_t enter(std::string_view name) {
    const std::size_t mark = path_.size();
    if (mark) path_ += '.';
    path_ += name;
    return mark;
  }
  [[gnu::noinline]] std::size_t enter(std::size_t index) { return enter(std::to_string(index)); }
  [[gnu::noinline]] void leave(std::size_t mark) { path_.resize(mark); }
  std::string_view text() const { return path_; }
  [[noreturn, gnu::cold, gnu::noinline]] void refuse(std::string_view why) const {
    throw std::invalid_argument(path_ + ": " + std::string(why));
  }

 private:
  std::string path_;
};
}  // namespace detail

/// Hands every parameter of one or more equally shaped modules to a function, with its dotted path. A module lists its
/// fields once, as `static void visit(auto& v, auto&... self) { v("up", self.up...); v("down", self.down...); }`, and
/// this one list serves optimiser, checkpoint, gradient check, counting and casting. A field may be a tensor, a module,
/// or a vector, array or optional of such.
template <class Fn>
class ParamVisitor {
 public:
  explicit ParamVisitor(Fn& fn) : fn_(fn) {}

  template <class First, class... Rest>
  void operator()(std::string_view name, First& first, Rest&... rest) {
    const std::size_t mark = path_.enter(name);
    visit_field(first, rest...);
    path_.leave(mark);
  }

 private:
  template <class First, class... Rest>
  void visit_field(First& first, Rest&... rest) {
    using Field = std::remove_const_t<First>;
    if constexpr (is_tensor<Field> || is_shared_tensor<Field>) {
      fn_(path_.text(), first, rest...);
    } else if constexpr (detail::is_sequence<Field>) {
      if (((rest.size() != first.size()) || ...)) path_.refuse("the modules visited together differ in length");
      for (std::size_t i = 0; i < first.size(); ++i) {
        const std::size_t mark = path_.enter(i);
        visit_field(first[i], rest[i]...);
        path_.leave(mark);
      }
    } else if constexpr (detail::is_optional<Field>) {
      if (((rest.has_value() != first.has_value()) || ...))
        path_.refuse("only some of the modules visited together have it");
      if (first) visit_field(*first, *rest...);
    } else {
      Field::visit(*this, first, rest...);
    }
  }

  Fn& fn_;
  detail::FieldPath path_;
};

/// fn(path, tensor of first, tensor of each other...), in the order of the fields.
template <class Fn, class First, class... Rest>
void for_each_param(Fn&& fn, First& first, Rest&... rest) {
  ParamVisitor<std::remove_reference_t<Fn>> visitor(fn);
  std::remove_const_t<First>::visit(visitor, first, rest...);
}

}  // namespace gatefold
