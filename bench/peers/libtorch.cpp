// libtorch in eager mode, with the usual loop over experts: index_select, addmm, gelu, addmm, index_add_.
#include <dlfcn.h>
#include <torch/torch.h>

#include <memory>

#include "bench/peers/peer.hpp"

namespace gatefold::bench {
namespace {

using torch::Tensor;

/// libtorch holds its own threads to a number, but not those of the BLAS that it calls.
void pin_torch(Index threads) {
  torch::set_num_threads(static_cast<int>(threads));
  using SetThreads = void (*)(int);
  static const auto set_blas = reinterpret_cast<SetThreads>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
  if (set_blas) set_blas(static_cast<int>(threads));
}

Contender contender(Index threads, std::function<void()> run) {
  return {std::move(run), [threads] { pin_torch(threads); }};
}

torch::ScalarType type_of(Format format) { return format == Format::bf16 ? torch::kBFloat16 : torch::kFloat32; }

Tensor matrix(Index rows, Index columns, torch::ScalarType type) {
  const double scale = 1 / std::sqrt(static_cast<double>(rows));
  return torch::empty({rows, columns}).uniform_(-scale, scale).to(type);
}
Tensor zeros(Index n, torch::ScalarType type) { return torch::zeros({n}, type); }

struct Sizes {
  Index width, hidden, experts, selected;
};

/// The feed-forward net of one expert. // up [D, H], down [H, D]
struct Net {
  Tensor up, up_bias, down, down_bias;
  Net(const Sizes& s, torch::ScalarType type)
      : up(matrix(s.width, s.hidden, type)),
        up_bias(zeros(s.hidden, type)),
        down(matrix(s.hidden, s.width, type)),
        down_bias(zeros(s.width, type)) {}
  Tensor operator()(const Tensor& x) const {
    return torch::addmm(down_bias, torch::gelu(torch::addmm(up_bias, x, up), "tanh"), down);
  }
  std::vector<Tensor> parameters() const { return {up, up_bias, down, down_bias}; }
};

/// A mixture; without experts a single net.
struct Mixture {
  Sizes sizes;
  Tensor router;  // [D, E]
  std::vector<Net> nets;

  Mixture(const Sizes& s, torch::ScalarType type) : sizes(s) {
    for (Index e = 0; e < std::max<Index>(s.experts, 1); ++e) nets.emplace_back(s, type);
    if (s.experts) router = matrix(s.width, s.experts, type);
  }
  Tensor operator()(const Tensor& x) const {
    if (sizes.experts == 0) return nets[0](x);
    const auto [gate, choice] = torch::topk(torch::softmax(torch::mm(x, router), -1), sizes.selected);
    auto y = torch::zeros_like(x);
    const auto mask = torch::one_hot(choice, sizes.experts).permute({2, 1, 0});  // [E, K, S]
    for (Index e = 0; e < sizes.experts; ++e) {
      const auto at = torch::where(mask[e]);  // rank, token
      if (at[0].numel() == 0) continue;
      const auto weight = gate.index({at[1], at[0]}).unsqueeze(1);
      y.index_add_(0, at[1], nets[static_cast<std::size_t>(e)](x.index_select(0, at[1])) * weight);
    }
    return y;
  }
  std::vector<Tensor> parameters() const {
    std::vector<Tensor> all;
    if (sizes.experts) all.push_back(router);
    for (const Net& net : nets)
      for (const Tensor& t : net.parameters()) all.push_back(t);
    return all;
  }
};

std::optional<Contender> product(const ProductCase& c) {
  const auto type = type_of(c.format);
  pin_torch(c.threads);
  const auto x = matrix(c.rows, c.in, type), w = matrix(c.out, c.in, type);
  return contender(c.threads, [x, w] {
    const torch::NoGradGuard no_grad;
    (void)torch::mm(x, w.t());
  });
}

std::optional<Contender> ffn(const FfnCase& c) {
  const auto type = type_of(c.format);
  pin_torch(c.threads);
  struct Data {
    Tensor x;
    std::vector<Net> nets;
    std::size_t next = 0;
  };
  auto d = std::make_shared<Data>(Data{matrix(c.rows, c.width, type), {}});
  for (Index e = 0; e < c.experts; ++e) d->nets.emplace_back(Sizes{c.width, c.hidden, 0, 0}, type);
  return contender(c.threads, [d] {
    const torch::NoGradGuard no_grad;
    (void)d->nets[d->next++ % d->nets.size()](d->x);
  });
}

std::optional<Contender> moe(const MoeCase& c) {
  const auto type = type_of(c.format);
  pin_torch(c.threads);
  // Tokens carry their logits in their first columns, as ours do.
  const Tensor probability = torch::arange(1, c.experts + 1).to(torch::kFloat64).pow(-c.zipf);
  const Tensor uniform = torch::rand({c.tokens, c.experts}, torch::kFloat64).clamp(1e-12, 1 - 1e-12);
  auto x = torch::rand({c.tokens, c.width}) * 2 - 1;
  x.slice(1, 0, c.experts).copy_(probability.log() - (-uniform.log()).log());
  x = x.to(type);
  auto layer = std::make_shared<Mixture>(Sizes{c.width, c.hidden, c.experts, c.selected}, type);
  layer->router = torch::eye(c.width, c.experts).to(type);
  return contender(c.threads, [x, layer] {
    const torch::NoGradGuard no_grad;
    (void)(*layer)(x);
  });
}

Tensor logits_of(const RoutingCase& c) { return torch::randn({c.tokens, c.experts}); }

std::optional<Contender> softmax_top_k(const RoutingCase& c) {
  pin_torch(c.threads);
  return contender(c.threads, [logits = logits_of(c), c] {
    const torch::NoGradGuard no_grad;
    (void)torch::topk(torch::softmax(logits, -1), c.selected);
  });
}

/// As GShard seats tokens: the position of a choice among those of its expert by a cumulative sum of one-hot rows.
std::optional<Contender> seats(const RoutingCase& c) {
  pin_torch(c.threads);
  const auto [gate, choice] = torch::topk(torch::softmax(logits_of(c), -1), c.selected);
  const auto capacity =
      static_cast<std::int64_t>(std::ceil(c.capacity_factor * static_cast<double>(c.tokens) *
                                          static_cast<double>(c.selected) / static_cast<double>(c.experts)));
  return contender(c.threads, [gate = gate, choice = choice, capacity, c] {
    const torch::NoGradGuard no_grad;
    const auto one_hot = torch::one_hot(choice.t().reshape({-1}), c.experts);  // [K S, E], first choices first
    const auto seat = (torch::cumsum(one_hot, 0) - 1).mul(one_hot).sum(1);
    (void)(gate.t().reshape({-1}) * seat.lt(capacity));
  });
}

/// x + attention(norm(x)), then x + mixture(norm(x)).
struct Block {
  BlockCase sizes;
  Tensor norm1_gain, norm1_bias, qkv, qkv_bias, out, out_bias, norm2_gain, norm2_bias;
  Mixture mixture;

  Block(const BlockCase& c, torch::ScalarType type)
      : sizes(c),
        norm1_gain(torch::ones({c.width}, type)),
        norm1_bias(zeros(c.width, type)),
        qkv(matrix(c.width, 3 * c.width, type)),
        qkv_bias(zeros(3 * c.width, type)),
        out(matrix(c.width, c.width, type)),
        out_bias(zeros(c.width, type)),
        norm2_gain(torch::ones({c.width}, type)),
        norm2_bias(zeros(c.width, type)),
        mixture({c.width, c.hidden, c.experts, c.selected}, type) {}

  Tensor operator()(const Tensor& x) const {
    const Index head = sizes.width / sizes.heads;
    const auto projected = torch::addmm(qkv_bias, torch::layer_norm(x, {sizes.width}, norm1_gain, norm1_bias), qkv)
                               .view({sizes.sequences, sizes.length, 3, sizes.heads, head})
                               .permute({2, 0, 3, 1, 4});  // [3, B, heads, T, head]
    const auto map = torch::softmax(
        torch::matmul(projected[0], projected[1].transpose(-2, -1)) / std::sqrt(static_cast<double>(head)), -1);
    const auto attended = torch::matmul(map, projected[2]).transpose(1, 2).reshape({sizes.tokens(), sizes.width});
    const auto mid = x + torch::addmm(out_bias, attended, out);
    return mid + mixture(torch::layer_norm(mid, {sizes.width}, norm2_gain, norm2_bias));
  }
  std::vector<Tensor> parameters() const {
    std::vector<Tensor> all{norm1_gain, norm1_bias, qkv, qkv_bias, out, out_bias, norm2_gain, norm2_bias};
    for (const Tensor& t : mixture.parameters()) all.push_back(t);
    return all;
  }
};

std::optional<Contender> block(const BlockCase& c) {
  const auto type = type_of(c.format);
  pin_torch(c.threads);
  auto layer = std::make_shared<Block>(c, type);
  return contender(c.threads, [layer, x = torch::randn({c.tokens(), c.width}).to(type)] {
    const torch::NoGradGuard no_grad;
    (void)(*layer)(x);
  });
}

std::optional<Contender> train_step(const BlockCase& c) {
  pin_torch(c.threads);
  auto layer = std::make_shared<Block>(c, torch::kFloat32);
  for (Tensor& t : layer->parameters()) t.requires_grad_();
  auto optimizer = std::make_shared<torch::optim::AdamW>(layer->parameters(), torch::optim::AdamWOptions(1e-4));
  auto x = torch::randn({c.tokens(), c.width}).requires_grad_();
  const auto dy = torch::randn({c.tokens(), c.width});
  return contender(c.threads, [layer, optimizer, x, dy] {
    optimizer->zero_grad();
    (*layer)(x).backward(dy);
    optimizer->step();
  });
}

const RegisterPeer kLibtorch({.name = "libtorch",
                              .version = TORCH_VERSION,
                              .formats = {Format::fp32, Format::bf16},
                              .product = product,
                              .ffn = ffn,
                              .moe = moe,
                              .softmax_top_k = softmax_top_k,
                              .seats = seats,
                              .block = block,
                              .train_step = train_step});

}  // namespace
}  // namespace gatefold::bench
