#include "tests/support/test_data.hpp"

std::filesystem::path gatefold::test::test_data(const std::filesystem::path& name) {
  return std::filesystem::path(GATEFOLD_TEST_DATA_DIR) / name;
}
