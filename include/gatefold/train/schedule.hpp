#pragma once
#include <algorithm>
#include <cmath>
#include <numbers>

#include "gatefold/core/error.hpp"

/// Learning rates as plain values: `schedule(step)`, where `step` counts the updates that were already made, from 0.
/// The warm-up rises as peak * (step + 1) / warmup_steps, so that no step is wasted at zero. A field that makes no
/// sense throws OptionError by its name when the schedule is asked.
namespace gatefold {

namespace detail {
inline double warmup_fraction(Index step, Index warmup_steps) {
  return step < warmup_steps ? static_cast<double>(step + 1) / static_cast<double>(warmup_steps) : 1;
}
inline void check_warmup(std::string_view who, double peak, Index warmup_steps, Index step) {
  expect_rate(who, "peak", peak);
  expect_option(warmup_steps >= 0, who, "warmup_steps", warmup_steps, "at least 0");
  expect_option(step >= 0, who, "step", step, "at least 0");
}
}  // namespace detail

/// The peak throughout, after the warm-up.
struct ConstantSchedule {
  double peak;
  Index warmup_steps = 0;

  double operator()(Index step) const {
    detail::check_warmup("ConstantSchedule", peak, warmup_steps, step);
    return peak * detail::warmup_fraction(step, warmup_steps);
  }
};

/// Half a cosine from the peak, at the end of the warm-up, to `last`, at total_steps and after.
struct CosineSchedule {
  double peak;
  Index warmup_steps = 0, total_steps;
  double last = 0;

  double operator()(Index step) const {
    detail::check_warmup("CosineSchedule", peak, warmup_steps, step);
    expect_size("CosineSchedule", "total_steps", total_steps);
    expect_rate("CosineSchedule", "last", last);
    if (step < warmup_steps) return peak * detail::warmup_fraction(step, warmup_steps);
    if (step >= total_steps) return last;
    const double progress = static_cast<double>(step - warmup_steps) / static_cast<double>(total_steps - warmup_steps);
    return last + (peak - last) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
  }
};

/// peak / sqrt(1 + (step - warmup_steps) / timescale), as V-MoE and Soft MoE train: the run may be prolonged at any
/// time. The last cooldown_steps before total_steps fall linearly to zero; total_steps = 0 means no end.
struct RsqrtSchedule {
  double peak;
  Index warmup_steps = 0;
  double timescale = 10000;  // steps
  Index total_steps = 0, cooldown_steps = 0;

  double operator()(Index step) const {
    detail::check_warmup("RsqrtSchedule", peak, warmup_steps, step);
    expect_option(timescale > 0, "RsqrtSchedule", "timescale", timescale, "a number above 0");
    expect_option(cooldown_steps >= 0, "RsqrtSchedule", "cooldown_steps", cooldown_steps, "at least 0");
    expect_option(total_steps >= (cooldown_steps > 0), "RsqrtSchedule", "total_steps", total_steps,
                  cooldown_steps > 0 ? "at least 1, since cooldown_steps count back from it" : "at least 0");
    double rate = peak * detail::warmup_fraction(step, warmup_steps);
    if (step > warmup_steps) rate /= std::sqrt(1 + static_cast<double>(step - warmup_steps) / timescale);
    if (total_steps > 0 && cooldown_steps > 0)
      rate *= std::clamp(static_cast<double>(total_steps - step) / static_cast<double>(cooldown_steps), 0.0, 1.0);
    return rate;
  }
};

}  // namespace gatefold
