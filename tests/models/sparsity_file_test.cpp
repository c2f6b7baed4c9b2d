#include "gatefold/models/sparsity_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/io/safetensors_writer.hpp"

namespace gatefold {
namespace {

using ::testing::HasSubstr, ::testing::ThrowsMessage;

/// A file with the matrix «w», said to be as sparse as that.
std::vector<std::byte> file_of(std::vector<float> values, const std::string& said, const std::string& of = "w",
                               std::optional<Dtype> dtype = std::nullopt) {
  Tensor<float, 2> w({2, std::ssize(values) / 2});
  std::ranges::copy(values, w.flat().begin());
  SafeTensorsWriter writer;
  writer.add("w", std::as_const(w).view(), dtype);
  writer.add_metadata(sparsity_key(of), said);
  return writer.bytes();
}
void check(const std::vector<std::byte>& bytes) { expect_sparsity(SafeTensors(std::span(bytes), "small.safetensors")); }

TEST(SparsityFile, WhatItSaysIsTrueOrRefusedByName) {
  const std::vector<float> sparse{1, 0, 0, 2, 0, 3, /**/ 0, 0, 4, 5, 0, 6},
      broken{1, 0, 0, 2, 0, 3, /**/ 0, 7, 4, 5, 0, 6};
  for (const auto dtype : {Dtype::f32, Dtype::bf16}) {
    EXPECT_NO_THROW(check(file_of(sparse, "2:4", "w", dtype)));
    EXPECT_THAT([&] { check(file_of(broken, "2:4", "w", dtype)); },
                ThrowsMessage<FormatError>(HasSubstr("small.safetensors: w: row 1 has 3 of the 4 inputs from 0 on, "
                                                     "expected at most 2")));
  }
  EXPECT_NO_THROW(check(file_of(broken, "70%")));  // says nothing of places
  EXPECT_THAT([&] { check(file_of(sparse, "2:4", "v")); },
              ThrowsMessage<FormatError>(HasSubstr("v: is said to be sparse, but is no matrix of numbers")));
  EXPECT_THAT([&] { check(file_of(sparse, "2 of 4")); },
              ThrowsMessage<FormatError>(HasSubstr("w: sparsity is \"2 of 4\"")));
}

}  // namespace
}  // namespace gatefold
