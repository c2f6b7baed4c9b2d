#include "gatefold/models/mixture_family.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "gatefold/models/mixture_file.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold {
namespace {

/// The tensors that goldens of a family have, without what stands before them.
std::set<std::string> tensors_of(const MixtureFile& file) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : file.tensors.tensors())
    names.insert(std::string(name.substr(detail::layer_prefix(file.tensors, *file.config.family, 1).size())));
  return names;
}

// A row that no published file needs would be a guess.
TEST(MixtureFamilies, EveryRowOfTheTablesIsOfATensorInAFileThatTransformersWrote) {
  std::map<const NameRule*, bool> met;
  std::set<std::string_view> families;
  for (const auto& folder : std::filesystem::directory_iterator(gatefold::test::test_data("mixtures"))) {
    if (!folder.is_directory()) continue;
    const auto file = open_mixture_file(folder.path());
    const auto tensors = tensors_of(file);
    families.insert(file.config.family->model_type);
    for (const auto& rule : file.config.family->names) {
      std::string name(rule.theirs.substr(0, rule.theirs.find(' ')));
      if (const auto at = name.find("{}"); at != name.npos) name.replace(at, 2, "0");
      met[&rule] |= tensors.contains(name);
    }
  }
  for (const auto& [rule, found] : met) EXPECT_TRUE(found) << rule->ours << " is " << rule->theirs;
  EXPECT_EQ(families.size(), std::size(kMixtureFamilies)) << "a family without a golden";
}

TEST(MixtureFamilies, ValuesThatAreFixedAreJson) {
  for (const auto& family : kMixtureFamilies)
    for (const auto& fixed : family.fixed) EXPECT_FALSE(parse_json(fixed.value, "").is_discarded()) << fixed.key;
}

// A layer's router tells that the layer is a mixture, so its name stands first.
TEST(MixtureFamilies, TheRouterComesFirst) {
  for (const auto& family : kMixtureFamilies) {
    EXPECT_EQ(family.names[0].ours, "router.weight") << family.model_type;
    EXPECT_EQ(family.names[0].arrangement, Arrangement::stacked) << family.model_type;
  }
}

}  // namespace
}  // namespace gatefold
