#pragma once
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "gatefold/core/shape.hpp"

/// What the benchmarks compare with. Each file of this folder registers one library; the build takes those whose
/// library is installed, and a program works without any.
namespace gatefold::bench {

/// What weights are kept in.
enum class Format { fp32, bf16, int8, int4, mxfp4, fp8 };

/// One way to do the work of a case.
struct Contender {
  std::function<void()> run;
  std::function<void()> pin = [] {};  ///< Before each of its turns: holds its library to the threads of the case.
  std::function<std::size_t()> scratch = {};  ///< Bytes that its calls took beside weights and results.
};

/// y = x wᵀ and the two products of its backward. // x [rows, in], w [out, in]
struct ProductCase {
  enum class Form { forward, grad_input, add_grad_weight };
  Format format = Format::fp32;
  Form form = Form::forward;
  Index rows, out, in, threads;
};

/// y = down(gelu(up(x))), with biases and the tanh form. With several experts each call takes the next one, so that
/// together they can be more than the caches hold.
struct FfnCase {
  Format format = Format::fp32;
  Index rows, width, hidden, threads, experts = 1;
};

/// Router, softmax, top-k, experts (FfnCase's net), sum weighted by the gates; nobody is turned away.
struct MoeCase {
  Format format = Format::fp32;
  Index tokens, width, hidden, experts, selected, threads;
  double zipf = 0;  ///< Expert e is chosen as if by probability 1 / (e + 1)^zipf.
};

/// From logits // [tokens, experts]
struct RoutingCase {
  Format format = Format::fp32;
  Index tokens, experts, selected, threads;
  double capacity_factor = 1.25;
};

/// A pre-norm transformer block of which the feed-forward net is an Mlp (experts = 0) or a mixture.
struct BlockCase {
  Format format = Format::fp32;
  Index sequences, length, width, hidden, heads, experts, selected, threads;
  Index tokens() const { return sequences * length; }
};

/// What a library can do. A function may still have no answer, where this CPU or version lacks something.
struct Peer {
  template <class Case>
  using Make = std::function<std::optional<Contender>(const Case&)>;

  std::string name, version;
  std::vector<Format> formats;
  Make<ProductCase> product = {};       ///< Forward.
  Make<ProductCase> product_grad = {};  ///< The other two forms.
  Make<FfnCase> ffn = {};
  Make<MoeCase> moe = {};
  Make<RoutingCase> softmax_top_k = {};  ///< Gates and choice.
  Make<RoutingCase> seats = {};          ///< The seat of each given choice, and who gets none.
  Make<BlockCase> block = {};            ///< Forward.
  Make<BlockCase> train_step = {};       ///< Forward, backward, AdamW.
};

/// «3.4.0»
inline std::string version_text(std::initializer_list<int> parts) {
  std::string text;
  for (const int part : parts) {
    if (!text.empty()) text += '.';
    text += std::to_string(part);
  }
  return text;
}

/// Those of this program; filled before main.
inline std::vector<Peer>& peers() {
  static std::vector<Peer> all;
  return all;
}

struct RegisterPeer {
  explicit RegisterPeer(Peer peer) { peers().push_back(std::move(peer)); }
};

}  // namespace gatefold::bench
