#pragma once
#include "gatefold/kernels/softmax.hpp"
#include "gatefold/module/router_scores.hpp"
#include "gatefold/simd/math.hpp"

/// The scores of a router that are no softmax, expert by expert, over scalars and vectors: value(z) = s, log_value(z) =
/// log s and log_slope(z) = d log s / d z, by which every way back goes. Scores of logits below -86 may be 0.
namespace gatefold::kernels {

/// log(1 + e^x).
template <class T>
T softplus(const T& x) {
  using std::log1p;
  return at_least(x, 0) + log1p(kernels::exp(minus_abs(x)));
}

#if GATEFOLD_HAS_SIMD
/// The same to 4 ULP: what 1 + e loses of e is added behind the logarithm.
template <class A>
xsimd::batch<float, A> softplus(const xsimd::batch<float, A>& x) {
  using V = xsimd::batch<float, A>;
  const V e = kernels::exp(minus_abs(x)), sum = V(1.0f) + e;
  return at_least(x, 0) + (kernels::log(sum) + (e - (sum - V(1.0f))) / sum);
}
#endif

struct SigmoidScore {
  template <class T>
  static T value(const T& z) {
    return logistic(z);
  }
  template <class T>
  static T log_value(const T& z) {
    return constant<T>(0) - softplus(T(-z));
  }
  template <class T>
  static T log_slope(const T& z) {
    return logistic(T(-z));
  }
};

struct SqrtSoftplusScore {
  template <class T>
  static T value(const T& z) {
    using std::sqrt;
    return sqrt(softplus(z));
  }
  template <class T>
  static T log_value(const T& z) {
    return constant<T>(0.5) * select(z < constant<T>(kFar), z, kernels::log(softplus(z)));
  }
  template <class T>
  static T log_slope(const T& z) {
    return constant<T>(0.5) * select(z < constant<T>(kFar), constant<T>(1), logistic(z) / softplus(z));
  }

 private:
  static constexpr double kFar = -40;  // below, softplus and its slope are both e^z to the last digit
};

struct ReluScore {
  template <class T>
  static T value(const T& z) {
    return at_least(z, 0);
  }
  template <class T>
  static T log_value(const T& z) {
    const T closed = constant<T>(-std::numeric_limits<double>::infinity());
    return select(z > constant<T>(0), kernels::log(z), select(z == z, closed, z));
  }
  template <class T>
  static T log_slope(const T& z) {
    return select(z > constant<T>(kLeastExp), constant<T>(1) / z, constant<T>(0));  // of less, 1 / z may be no number
  }
};

/// f(SigmoidScore{}) and so on. Not for a softmax, which is none of the experts' own.
template <class F>
decltype(auto) with_score(RouterScore score, F&& f) {
  switch (score) {
    case RouterScore::sqrt_softplus:
      return f(SqrtSoftplusScore{});
    case RouterScore::relu:
      return f(ReluScore{});
    default:
      return f(SigmoidScore{});
  }
}

/// log_p = log(s / sum s) of one row for any score; NaN where no score is above 0. Must not overlap.
template <class T>
void log_probs_row(Isa isa, RouterScore score, Index n, const T* logit, T* scratch, T* log_p) {
  if (score == RouterScore::softmax) return log_softmax_row<T>(isa, n, logit, log_p);
  with_score(score, [&]<class Score>(Score) {
    simd::transform<T>(
        isa, n, [](auto z) { return Score::log_value(z); }, scratch, logit);
  });
  log_softmax_row<T>(isa, n, scratch, log_p);
}

/// d, a gradient by log s, becomes one by z. // gates [n] as the scores gave them, d [n]
template <class T>
void log_score_grad_row(Isa isa, RouterScore score, Index n, const T* gates, const T* logit, T* d) {
  if (score == RouterScore::softmax) {
    const T total = simd::sum<T>(
        isa, n, [](auto v) { return v; }, d);
    simd::transform<T>(
        isa, n, [=](auto v, auto p) { return v - p * total; }, d, d, gates);
    return;
  }
  // Asked anew for each vector, which costs nothing beside an exponential and a third of the code.
  simd::transform<T>(
      isa, n,
      [=](auto v, auto z) { return v * with_score(score, [&]<class Score>(Score) { return Score::log_slope(z); }); }, d,
      d, logit);
}

}  // namespace gatefold::kernels
