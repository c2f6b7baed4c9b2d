// The ceilings of the machine, and single matrix products: y = x wᵀ, dx = dy w, dw += dyᵀ x.
// product/<form>/<format>/<out>x<in>/rows:<m>/threads:<t>
#include "bench/session.hpp"
#include "gatefold/products/matmul.hpp"
#include "gatefold/products/packed.hpp"

namespace gatefold::bench {
namespace {

using Form = ProductCase::Form;

std::string name(Form form) {
  constexpr const char* kNames[] = {"forward", "grad_input", "grad_weight"};
  return kNames[static_cast<std::size_t>(form)];
}

/// A weight in its dense form, the way of training: its panels are packed in every call.
Contender unpacked(const ProductCase& c) {
  struct Data {
    Tensor<float, 2> x, w, y;
    Context ctx;
  };
  auto d = std::make_shared<Data>(Data{random_rows(c.rows, c.in, 1), random_rows(c.out, c.in, 2),
                                       random_rows(c.rows, c.out, 3), with_threads(c.threads)});
  return {[d, form = c.form] {
    if (form == Form::forward) kernels::matmul<float>(d->x, d->w, d->y, d->ctx);
    if (form == Form::grad_input) kernels::matmul_grad_input<float>(d->y, d->w, d->x, d->ctx);
    if (form == Form::add_grad_weight) kernels::add_matmul_grad_weight<float>(d->y, d->x, d->w, d->ctx);
  }};
}

/// A weight packed once.
Contender packed(const ProductCase& c) {
  return with_format(c.format, [&]<class F>() {
    struct Data {
      Packed<F> w;
      Tensor<float, 2> x, y;
      Context ctx;
    };
    const auto w = random_rows(c.out, c.in, 2);
    auto d = std::make_shared<Data>(
        Data{Packed<F>(w), random_rows(c.rows, c.in, 1), Tensor<float, 2>({c.rows, c.out}), with_threads(c.threads)});
    return Contender{[d] { kernels::matmul<float>(d->x, d->w, d->y, d->ctx); }};
  });
}

void add(Session& session, const ProductCase& c) {
  Case row;
  row.name = row_name("product/" + name(c.form) + "/" + bench::name(c.format) + "/" + std::to_string(c.out) + "x" +
                          std::to_string(c.in),
                      {{"rows", c.rows}, {"threads", c.threads}});
  row.threads = c.threads;
  const double weights = static_cast<double>(c.out) * static_cast<double>(c.in);
  row.work = {.flops = 2 * weights * static_cast<double>(c.rows),
              .bytes = weights * bytes_per_weight(c.format),
              .format = c.format};
  if (c.form == Form::forward) row.entrants.push_back({"gatefold", [c] { return packed(c); }});
  if (c.format == Format::fp32)
    row.entrants.push_back(
        {row.entrants.empty() ? "gatefold" : "unpacked", [c] { return unpacked(c); }, Entrant::Role::self});
  add_peers(row.entrants, c.form == Form::forward ? &Peer::product : &Peer::product_grad, c);
  session.add(std::move(row));
}

}  // namespace

void add_cases(Session& session) {
  for (const Index threads : {1, 2})
    for (const Limit limit :
         {Limit::fma, Limit::dot_bf16, Limit::dot_int8, Limit::amx_bf16, Limit::amx_int8, Limit::l2, Limit::dram})
      session.add_ceiling(limit, threads);
  if (session.quick()) {
    for (const Format format : kFormats)
      add(session, {.format = format, .rows = 16, .out = 100, .in = 60, .threads = 1});
    for (const Form form : {Form::grad_input, Form::add_grad_weight})
      add(session, {.form = form, .rows = 16, .out = 100, .in = 60, .threads = 1});
    return;
  }
  for (const Format format : kFormats)
    for (const Index m : {1, 4, 16, 64, 196, 1024})
      for (const Index d : {192, 512, 768, 1024})
        if (format == Format::fp32 || d == 768)
          add(session, {.format = format, .rows = m, .out = 4 * d, .in = d, .threads = 1});
  for (const Index threads : {1, 2})
    for (const Index m : {196, 2048})
      for (const Form form : {Form::forward, Form::grad_input, Form::add_grad_weight})
        if (threads > 1 || m > 196 || form != Form::forward)
          add(session, {.form = form, .rows = m, .out = 3072, .in = 768, .threads = threads});
}

}  // namespace gatefold::bench
