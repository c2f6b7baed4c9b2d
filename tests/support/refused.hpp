#pragma once
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "gatefold/core/error.hpp"

namespace gatefold::test {

/// The call throws an E whose message contains `text`.
template <class E, class Call>
void expect_error(Call&& call, std::string_view text) {
  try {
    call();
    ADD_FAILURE() << "not refused, expected «" << text << "»";
  } catch (const E& error) {
    EXPECT_NE(std::string_view(error.what()).find(text), std::string_view::npos)
        << "«" << error.what() << "» does not say «" << text << "»";
  }
}
template <class Call>
void expect_option_error(Call&& call, std::string_view text) {
  expect_error<OptionError>(call, text);
}
template <class Call>
void expect_shape_error(Call&& call, std::string_view text) {
  expect_error<ShapeError>(call, text);
}

}  // namespace gatefold::test
