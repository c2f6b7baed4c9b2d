#pragma once
#include <filesystem>

namespace gatefold::test {

/// tests/data/<name>. One file alone knows where the clone lies, so that ccache finds in one clone what another compiled.
std::filesystem::path test_data(const std::filesystem::path& name);

}  // namespace gatefold::test
