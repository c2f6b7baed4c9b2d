// The forward pass of a mixture, by turns with libraries that come as Python packages: bench/peers/moe_peers.py starts
//
//     bench_moe <case.safetensors> <swiglu|gelu> <fp32|bf16|int8|int4|mxfp4|fp8> <threads>
//
// and writes lines to its standard input, each of which is answered by one line:
//
//     turn <experts|layer> <tokens> <windows> <passes>    each window's best seconds of so many passes over all
//                                                         windows; a window is the next <tokens> rows of x
//     out <experts|layer> <tokens> <file>                 writes the output for the first rows, as float32
//
// «experts» begins with the experts of each token and their weights, as the calls of other libraries do; «layer» has
// the router as well.
#include <chrono>
#include <fstream>
#include <iostream>
#include <sstream>

#include "bench/data.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/io/checkpoint.hpp"
#include "gatefold/module/pack.hpp"
#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "gatefold/version.hpp"

namespace gatefold::bench {
namespace {

struct Turns {
  Index tokens;                                                    ///< Of the case.
  std::function<Rows<const float>(bool layer, Index, Index)> run;  ///< (layer, first token, tokens) -> y

  std::string turn(bool layer, Index count, Index windows, Index passes) const {
    using Clock = std::chrono::steady_clock;
    std::vector<double> best(static_cast<std::size_t>(windows), std::numeric_limits<double>::infinity());
    for (Index pass = 0; pass < passes; ++pass)
      for (Index w = 0; w < windows; ++w) {
        const Index first = w * count % (tokens - count + 1);
        const auto start = Clock::now();
        run(layer, first, count);
        auto& seconds = best[static_cast<std::size_t>(w)];
        seconds = std::min(seconds, std::chrono::duration<double>(Clock::now() - start).count());
      }
    std::ostringstream line;
    for (const double seconds : best) line << seconds << ' ';
    return line.str();
  }

  std::string out(bool layer, Index count, const std::string& path) const {
    const auto y = run(layer, 0, count);
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(y.data()),
               static_cast<std::streamsize>(sizeof(float)) * static_cast<std::streamsize>(y.size()));
    if (!file.flush()) throw std::runtime_error("bench_moe: cannot write " + path);
    return "written";
  }

  std::string answer(const std::string& line) const {
    std::istringstream words(line);
    std::string verb, what, path;
    Index count = 0, windows = 0, passes = 0;
    words >> verb >> what >> count;
    const bool known = (what == "experts" || what == "layer") && count >= 1 && count <= tokens;
    if (known && verb == "turn" && words >> windows >> passes) return turn(what == "layer", count, windows, passes);
    if (known && verb == "out" && std::getline(words >> std::ws, path)) return out(what == "layer", count, path);
    throw std::runtime_error("bench_moe: cannot read «" + line + "», expected «turn experts 16 8 2» or " +
                             "«out layer 16 y.bin», with 1 to " + std::to_string(tokens) + " tokens");
  }
};

/// Ours, without biases: none of the others is given any.
template <class F, class Net>
Turns ours(const CheckpointReader& file, Index threads) {
  using Expert = decltype(pack<F>(std::declval<const Net&>()));
  using Layer = SparseMlp<TopKRouter<float>, Expert>;
  struct Data {
    Layer layer;
    Tensor<float, 2> x;        // [S, D]
    Tensor<Index, 2> ids;      // [S, K]
    Tensor<float, 2> combine;  // [S, K]
    Tensor<float, 2> scores;   // [S, E], of which a plan wants to know the shape
    Tensor<float, 2> y;        // [S, D]
    Context ctx;
  };
  auto choice = file.read_tensor<Index, 2>("ids");
  auto router_weight = file.read_tensor<float, 2>("router");
  const Index experts = router_weight.extent(0), width = router_weight.extent(1);
  const Index tokens = choice.extent(0), selected = choice.extent(1);
  TopKRouter<float> router(
      {.width = width, .num_experts = experts, .num_selected = selected, .renormalise = Renormalise::before_dropping});
  router.weight = std::move(router_weight);
  auto packed = [&] {
    const auto up = file.read_tensor<float, 3>("up"), down = file.read_tensor<float, 3>("down");
    Tensor<float, 3> gate;
    if constexpr (requires(Net net) { net.gate; }) gate = file.read_tensor<float, 3>("gate");
    Net net({.width = width, .hidden = up.extent(1)});
    const auto take = [](auto& linear, const Tensor<float, 3>& from, Index e) {
      const auto one = linear.weight.flat();
      std::copy_n(from.data() + e * static_cast<Index>(one.size()), one.size(), one.begin());
      linear.bias = Tensor<float, 1>({0});
    };
    std::vector<Expert> all;
    for (Index e = 0; e < experts; ++e) {
      if constexpr (requires { net.gate; }) take(net.gate, gate, e);
      take(net.up, up, e), take(net.down, down, e);
      all.push_back(pack<F>(net));
    }
    return all;
  }();
  auto d = std::make_shared<Data>(Data{Layer(std::move(router), std::move(packed)), file.read_tensor<float, 2>("x"),
                                       std::move(choice), file.read_tensor<float, 2>("combine"),
                                       Tensor<float, 2>({tokens, experts}), Tensor<float, 2>({tokens, width}),
                                       with_threads(threads)});
  gather_weights(d->layer);  // as pack<F>(layer) does, which would need all of its weights in fp32 at once
  const auto run = [d](bool layer, Index first, Index count) -> Rows<const float> {
    const auto x = std::as_const(d->x).view().rows(first, first + count);
    const auto y = d->y.view().rows(0, count);
    Context& ctx = d->ctx;
    if (layer) {
      infer(d->layer, x, y, ctx);
      return y;
    }
    const auto scope = ctx.workspace.scope();
    const auto ids = std::as_const(d->ids).view().rows(first, first + count);
    const auto combine = std::as_const(d->combine).view().rows(first, first + count);
    const auto plan = plan_top_k<float>(std::as_const(d->scores).view().rows(0, count), ids, {}, ctx);
    auto ys = ctx.workspace.take<float>(plan.num_slots(), x.extent(1));
    Expert::forward_grouped(d->layer.experts, x, SlotRows{plan.offset, plan.token}, ys, ctx);
    auto weight = ctx.workspace.take<float>(plan.num_slots());
    for (Index n = 0; n < plan.num_slots(); ++n) weight[n] = combine(plan.token[n], plan.rank[n]);
    kernels::combine_rows<float>(ys, weight, plan.token_lists(), y, ctx);
    return y;
  };
  return {tokens, run};
}

Turns ours(const CheckpointReader& file, const std::string& activation, const std::string& format, Index threads) {
  for (const Format each : kFormats)
    if (name(each) == format)
      return with_format(each, [&]<class F>() {
        if (activation == "swiglu") return ours<F, GatedMlp<float>>(file, threads);
        if (activation == "gelu") return ours<F, Mlp<float>>(file, threads);
        throw std::runtime_error("bench_moe: the activation is «" + activation + "», expected swiglu or gelu");
      });
  throw std::runtime_error("bench_moe: the format is «" + format + "», expected fp32, bf16, int8, int4, mxfp4 or fp8");
}

int serve(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: bench_moe <case.safetensors> <swiglu|gelu> <fp32|bf16|int8|int4|mxfp4|fp8> <threads>\n";
    return 2;
  }
  const Index threads = std::max(1, std::atoi(argv[4]));
  const auto turns = ours(CheckpointReader(argv[1]), argv[2], argv[3], threads);
  std::cout << "ready gatefold " << GATEFOLD_VERSION_STRING << " (" << name(Context().isa) << ")" << std::endl;
  for (std::string line; std::getline(std::cin, line);) std::cout << turns.answer(line) << std::endl;
  return 0;
}

}  // namespace
}  // namespace gatefold::bench

int main(int argc, char** argv) {
  try {
    return gatefold::bench::serve(argc, argv);
  } catch (const std::exception& e) {
    std::cout << "error " << e.what() << std::endl;
    return 1;
  }
}
