#pragma once
#include <charconv>
#include <cmath>
#include <string>
#include <string_view>
#include <variant>

#include "gatefold/core/error.hpp"

namespace gatefold {

/// Among which weights the share that goes is counted.
enum class Scope {
  row,     ///< Those of one output: Wanda.
  tensor,  ///< Those of one weight: magnitude, SparseGPT (which counts by its blocks of columns).
  model,   ///< All that are pruned by the same rule.
};

/// floor(share * count) weights go, wherever they stand.
struct Unstructured {
  double share;  ///< Of the weights that go, in [0, 1).
  Scope scope = Scope::row;
  bool operator==(const Unstructured&) const = default;
};

/// Of each `of` consecutive inputs of an output at most `kept` stay: 2 of 4. A shorter last group keeps as many.
struct NOfM {
  Index kept, of;
  bool operator==(const NOfM&) const = default;
};

using Sparsity = std::variant<Unstructured, NOfM>;

/// Throws OptionError for a share outside [0, 1), or groups of more than 16 or fewer than are kept.
inline void check(const Sparsity& sparsity) {
  if (const auto* some = std::get_if<Unstructured>(&sparsity)) {
    expect_option(some->share >= 0 && some->share < 1, "Unstructured", "share", some->share, "a number in [0, 1)");
  } else {
    const auto& groups = std::get<NOfM>(sparsity);
    expect_option(2 <= groups.of && groups.of <= 16, "NOfM", "of", groups.of, "2..16");
    expect_option(1 <= groups.kept && groups.kept < groups.of, "NOfM", "kept", groups.kept,
                  "at least 1, and fewer than the group has");
  }
}

/// How many of so many weights a share is. A share such as 0.29 is a little less than it says, and 0.29 of 100 is 29.
inline Index share_of(double share, Index count) {
  return static_cast<Index>(std::floor(share * static_cast<double>(count) + 1e-9));
}

/// «2:4», «70%».
inline std::string to_text(const Sparsity& sparsity) {
  if (const auto* groups = std::get_if<NOfM>(&sparsity))
    return std::to_string(groups->kept) + ":" + std::to_string(groups->of);
  char text[32];
  std::snprintf(text, sizeof text, "%g%%", 100 * std::get<Unstructured>(sparsity).share);
  return text;
}

/// What to_text writes; also «0.7». Throws OptionError for anything else.
inline Sparsity sparsity_of(std::string_view text, Scope scope = Scope::row) {
  const char *const begin = text.data(), *const end = begin + text.size();
  const auto refuse = [&]() -> Sparsity {
    throw OptionError("sparsity is \"" + std::string(text) +
                      "\", expected 2:4 (kept of each group) or 70% (that goes)");
  };
  Sparsity sparsity;
  if (const auto colon = text.find(':'); colon != std::string_view::npos) {
    NOfM groups{};
    const auto kept = std::from_chars(begin, begin + colon, groups.kept);
    const auto of = std::from_chars(begin + colon + 1, end, groups.of);
    if (kept.ec != std::errc{} || kept.ptr != begin + colon || of.ec != std::errc{} || of.ptr != end) return refuse();
    sparsity = groups;
  } else {
    Unstructured some{.share = 0, .scope = scope};
    const auto [at, error] = std::from_chars(begin, end, some.share);
    const bool percent = at + 1 == end && *at == '%';
    if (error != std::errc{} || (at != end && !percent)) return refuse();
    if (percent) some.share /= 100;
    sparsity = some;
  }
  check(sparsity);
  return sparsity;
}

}  // namespace gatefold
