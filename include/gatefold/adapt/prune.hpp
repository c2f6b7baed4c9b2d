#pragma once
#include "gatefold/adapt/pruners.hpp"

namespace gatefold {

/// How much of the weights goes whose path matches; the first rule that does counts.
struct PruneRule {
  std::string weights;  ///< See PathPattern.
  Sparsity sparsity;
};

/// On what a block's activations are seen.
enum class Before {
  pruned,  ///< The blocks before it pruned: a calibration for each block.
  dense,   ///< All as it was: one calibration. Its statistics are all in memory at once.
};

/// What became of a weight.
struct PrunedWeight {
  std::string path{};
  Index size = 0, kept = 0;
  Index rows = 0, rows_left_out = 0;  ///< Seen, see WeightStatistics; without any it was pruned by magnitude.

  double sparsity() const { return size ? 1 - static_cast<double>(kept) / static_cast<double>(size) : 0; }
};

struct Pruned {
  Masks masks{};
  std::vector<PrunedWeight> weights{};  ///< In the order of the model's fields.
};

namespace detail {
/// The block that a weight belongs to: the path to "blocks.3", or the whole.
inline std::string_view block_of(std::string_view path) {
  constexpr std::string_view kBlocks = "blocks.";
  const auto at = path.find(kBlocks);
  if (at == path.npos || (at != 0 && path[at - 1] != '.')) return path;
  return path.substr(0, path.find('.', at + kBlocks.size()));
}

struct PruneTarget {
  std::string path;
  Tensor<float, 2>* weight;
  std::size_t rule;
};

template <Module M>
std::vector<PruneTarget> prune_targets(M& model, const std::vector<PruneRule>& rules) {
  std::vector<PruneTarget> targets;
  std::vector<char> used(rules.size());
  for (const PruneRule& rule : rules) check(rule.sparsity);
  for_each_param(
      [&](std::string_view path, auto& tensor) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(tensor)>, Tensor<float, 2>>)
          for (std::size_t r = 0; r < rules.size(); ++r)
            if (PathPattern(rules[r].weights).matches(path)) {
              used[r] = 1;
              targets.push_back({std::string(path), &tensor, r});
              break;
            }
      },
      model);
  for (std::size_t r = 0; r < used.size(); ++r)
    expect_option(used[r], "prune: the pattern \"" + rules[r].weights + "\" matches no weight that others left");
  return targets;
}

/// Scope::model: all weights of a rule by one threshold.
template <ScoringPruner P>
void prune_together(const P& pruner, std::span<const PruneTarget> targets, const Calibration* calibration, double share,
                    std::vector<Tensor<std::uint8_t, 2>>& masks) {
  std::vector<double> all, scratch;
  for (const PruneTarget& target : targets) {
    const auto score =
        pruner.score(*target.weight, calibration ? calibration->of(target.path) : WeightStatistics{target.path});
    for (const double s : score.flat())
      expect_option(!std::isnan(s), "prune: a score of " + target.path + " is NaN, expected numbers");
    all.insert(all.end(), score.flat().begin(), score.flat().end());
  }
  std::vector<std::uint8_t> stays(all.size(), 1);
  remove_lowest(all, share_of(share, std::ssize(all)), stays, scratch);
  auto from = stays.begin();
  for (const PruneTarget& target : targets) {
    Tensor<std::uint8_t, 2> mask(target.weight->shape());
    std::copy_n(from, mask.size(), mask.data());
    from += mask.size();
    masks.push_back(std::move(mask));
  }
}
}  // namespace detail

/// Prunes the weights that the rules name, block after block ("blocks.N" in a path; any other weight by itself), and
/// sets to 0 what goes. `calibrate(ctx)` is called before each block, and is to run the model on the same inputs each
/// time; `done(path of the block, blocks done, blocks in all)` after it. Throws OptionError for a rule that matches no
/// weight and where a pruner is asked for more than it knows (Scope::model of one that does not score, or block after
/// block), and what the pruner throws; the blocks before are pruned then.
template <Module M, Pruner P, class Calibrate, class Done>
Pruned prune(M& model, const P& pruner, const std::vector<PruneRule>& rules, Before before, Calibrate&& calibrate,
             Done&& done, Context& ctx) {
  const auto targets = detail::prune_targets(model, rules);
  const auto scope_of = [&](std::size_t rule) {
    const auto* const some = std::get_if<Unstructured>(&rules[rule].sparsity);
    return some ? some->scope : Scope::row;
  };
  Pruned pruned;
  const auto prune_some = [&](std::span<const detail::PruneTarget> part) {
    std::optional<Calibration> calibration;
    if constexpr (P::kSees.has_value()) {
      CalibrationOptions options{.weights = {}, .detail = *P::kSees};
      for (const auto& target : part) options.weights.push_back(target.path);
      calibration.emplace(std::as_const(model), options);
      struct Watch {  // what the caller had comes back, whatever is thrown
        Context& ctx;
        Calibration* before;
        ~Watch() { ctx.calibration = before; }
      } const watch{ctx, ctx.calibration};
      ctx.calibration = &*calibration;
      calibrate(ctx);
    }
    std::vector<Tensor<std::uint8_t, 2>> masks;
    if (scope_of(part.front().rule) == Scope::model) {
      if constexpr (ScoringPruner<P>)
        detail::prune_together(pruner, part, calibration ? &*calibration : nullptr,
                               std::get<Unstructured>(rules[part.front().rule].sparsity).share, masks);
      else
        throw OptionError("prune: Scope::model, expected row or tensor of a pruner that does not score weights");
    } else {
      for (const auto& target : part)
        masks.push_back(pruner.prune(*target.weight,
                                     calibration ? calibration->of(target.path) : WeightStatistics{target.path},
                                     rules[target.rule].sparsity, ctx));
    }
    for (std::size_t i = 0; i < part.size(); ++i) {
      const auto& target = part[i];
      PrunedWeight result{.path = target.path, .size = masks[i].size()};
      for (std::size_t w = 0; w < masks[i].flat().size(); ++w)
        if (masks[i].flat()[w])
          ++result.kept;
        else
          target.weight->flat()[w] = 0;
      if (calibration) {
        result.rows = calibration->of(target.path).rows;
        result.rows_left_out = calibration->of(target.path).rows_left_out;
      }
      pruned.weights.push_back(std::move(result));
      pruned.masks.of.emplace(target.path, Mask(std::move(masks[i])));
    }
  };

  // Parts that are pruned at once, each of which stands together in the order of the fields.
  std::vector<std::vector<detail::PruneTarget>> parts;
  std::vector<std::string> names;
  for (const auto& target : targets) {
    const bool whole = scope_of(target.rule) == Scope::model;
    expect_option(!whole || before == Before::dense,
                  "prune: Scope::model block after block, expected Before::dense, or another scope");
    const std::string name = whole                     ? rules[target.rule].weights
                             : before == Before::dense ? std::string("all")
                                                       : std::string(detail::block_of(target.path));
    const auto at = std::ranges::find(names, name);
    const auto i = static_cast<std::size_t>(at - names.begin());
    if (at == names.end()) names.push_back(name), parts.emplace_back();
    parts[i].push_back(target);
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    prune_some(parts[i]);
    done(std::string_view(names[i]), static_cast<Index>(i + 1), std::ssize(parts));
  }
  return pruned;
}

}  // namespace gatefold
