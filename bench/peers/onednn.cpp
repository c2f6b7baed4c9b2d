// oneDNN: matmul with weights in the layout it asks for, packed once. The feed-forward net has its bias and its tanh
// GELU fused into the first product and its bias into the second, the same mathematics as ours. In int8 the
// activations come quantised, which is work that only we do.
#include <omp.h>

#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "bench/data.hpp"

namespace gatefold::bench {
namespace {

using Type = dnnl::memory::data_type;
using Tag = dnnl::memory::format_tag;

struct Engine {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
};
Engine& shared_engine() {
  static Engine e;
  return e;
}

enum class Epilogue { none, bias, bias_gelu };
struct MatmulOptions {
  Index rows, in, out;
  Type source, weight, result;
  Epilogue epilogue = Epilogue::none;
};

/// One product, with its own weights and operands.
class Matmul {
 public:
  Matmul(const MatmulOptions& o, const dnnl::memory& source, const dnnl::memory& result) : primitive_(describe(o)) {
    auto& e = shared_engine();
    Tensor<float, 2> w = random_rows(o.out, o.in, 2);
    fill(w.flat(), o.weight == Type::s8 ? 100.0f : 1 / std::sqrt(static_cast<float>(o.in)), 2);
    dnnl::memory plain({{o.in, o.out}, Type::f32, Tag::ba}, e.engine, w.data());
    dnnl::memory weights(primitive_.weights_desc(), e.engine);
    dnnl::reorder(plain, weights).execute(e.stream, plain, weights);
    e.stream.wait();
    arguments_ = {{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, result}};
    if (o.epilogue != Epilogue::none) {
      dnnl::memory bias({{1, o.out}, Type::f32, Tag::ab}, e.engine);
      std::fill_n(static_cast<float*>(bias.get_data_handle()), o.out, 0.0f);
      arguments_.emplace(DNNL_ARG_BIAS, bias);
    }
    matmul_ = dnnl::matmul(primitive_);
  }
  void run() { matmul_.execute(shared_engine().stream, arguments_); }

 private:
  static dnnl::matmul::primitive_desc describe(const MatmulOptions& o) {
    dnnl::primitive_attr attributes;
    if (o.epilogue == Epilogue::bias_gelu) {
      dnnl::post_ops after;
#if DNNL_VERSION_MAJOR >= 3
      after.append_eltwise(dnnl::algorithm::eltwise_gelu_tanh, 0, 0);
#else
      after.append_eltwise(1, dnnl::algorithm::eltwise_gelu_tanh, 0, 0);
#endif
      attributes.set_post_ops(after);
    }
#if DNNL_VERSION_MAJOR < 3
    if (o.weight == Type::s8) attributes.set_output_scales(0, {1e-4f});
#endif
    const dnnl::memory::desc source({o.rows, o.in}, o.source, Tag::ab), weights({o.in, o.out}, o.weight, Tag::any),
        bias({1, o.out}, Type::f32, Tag::ab), result({o.rows, o.out}, o.result, Tag::ab);
    const bool with_bias = o.epilogue != Epilogue::none;
#if DNNL_VERSION_MAJOR >= 3
    auto& engine = shared_engine().engine;
    return with_bias ? dnnl::matmul::primitive_desc(engine, source, weights, bias, result, attributes)
                     : dnnl::matmul::primitive_desc(engine, source, weights, result, attributes);
#else
    return {with_bias ? dnnl::matmul::desc(source, weights, bias, result) : dnnl::matmul::desc(source, weights, result),
            attributes, shared_engine().engine};
#endif
  }

  dnnl::matmul::primitive_desc primitive_;
  dnnl::matmul matmul_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

Type type_of(Format format) {
  return format == Format::fp32 ? Type::f32 : format == Format::bf16 ? Type::bf16 : Type::s8;
}

/// Rows with content; zeros would do for speed, except that nobody should have to believe it.
dnnl::memory rows_of(Index rows, Index columns, Type type) {
  auto& e = shared_engine();
  Tensor<float, 2> x = random_rows(rows, columns, 1);
  if (type == Type::s8) fill(x.flat(), 127, 1);
  dnnl::memory plain({{rows, columns}, Type::f32, Tag::ab}, e.engine, x.data());
  dnnl::memory typed({{rows, columns}, type, Tag::ab}, e.engine);
  dnnl::reorder(plain, typed).execute(e.stream, plain, typed);
  e.stream.wait();
  return typed;
}

void pin_openmp(Index threads) { omp_set_num_threads(static_cast<int>(threads)); }

/// Types that this CPU or this version lacks are no error.
template <class Make>
std::optional<Contender> where_implemented(Index threads, Make&& make) {
  pin_openmp(threads);  // what a primitive is made for
  try {
    return Contender{make(), [threads] { pin_openmp(threads); }};
  } catch (const dnnl::error& e) {
    if (e.status == dnnl_unimplemented) return {};
    throw;
  }
}

std::optional<Contender> product(const ProductCase& c) {
  const Type type = type_of(c.format);
  return where_implemented(c.threads, [&]() -> std::function<void()> {
    auto matmul = std::make_shared<Matmul>(MatmulOptions{c.rows, c.in, c.out, type, type, Type::f32},
                                           rows_of(c.rows, c.in, type), rows_of(c.rows, c.out, Type::f32));
    return [matmul] {
      matmul->run();
      shared_engine().stream.wait();
    };
  });
}

std::optional<Contender> ffn(const FfnCase& c) {
  const Type type = type_of(c.format);
  return where_implemented(c.threads, [&]() -> std::function<void()> {
    struct Net {
      std::vector<std::pair<Matmul, Matmul>> experts;
      std::size_t next = 0;
    };
    auto net = std::make_shared<Net>();
    const auto x = rows_of(c.rows, c.width, type), h = rows_of(c.rows, c.hidden, type),
               y = rows_of(c.rows, c.width, Type::f32);
    for (Index e = 0; e < c.experts; ++e)
      net->experts.emplace_back(Matmul({c.rows, c.width, c.hidden, type, type, type, Epilogue::bias_gelu}, x, h),
                                Matmul({c.rows, c.hidden, c.width, type, type, Type::f32, Epilogue::bias}, h, y));
    return [net] {
      auto& [up, down] = net->experts[net->next++ % net->experts.size()];
      up.run();
      down.run();
      shared_engine().stream.wait();
    };
  });
}

const RegisterPeer kOnednn({.name = "oneDNN",
                            .version = version_text({DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, DNNL_VERSION_PATCH}),
                            .formats = {Format::fp32, Format::bf16, Format::int8},
                            .product = product,
                            .ffn = ffn});

}  // namespace
}  // namespace gatefold::bench
