#pragma once
#include "gatefold/losses/aux_losses.hpp"
#include "gatefold/losses/importance.hpp"
#include "gatefold/losses/load.hpp"
#include "gatefold/models/sparse_trunk.hpp"
#include "gatefold/module/ops.hpp"
#include "gatefold/nn/class_token.hpp"
#include "gatefold/nn/layout_scope.hpp"
#include "gatefold/nn/padding.hpp"
#include "gatefold/nn/patch_embed.hpp"
#include "gatefold/nn/pool.hpp"
#include "gatefold/nn/position.hpp"

namespace gatefold {

/// How a V-MoE is made; sizes with the axis letters of core/shape.hpp. What is said of routing is the paper's, and says
/// nothing to a dense model.
struct VmoeOptions {
  /// What the classes are told from: a class token, or the mean of all patches.
  enum class Classifier { token, mean };
  Index image_size = 28, patch = 4, channels = 1, num_classes = 10;
  Index width = 96, hidden = 384, num_layers = 4, num_heads = 4;  // D, H, -, -
  Classifier classifier = Classifier::token;
  Placement sparse{};  ///< Blocks with experts, in the paper Placement::every(2, L); none makes a dense model.
  Index num_experts = 8, num_selected = 2;  // E, K
  Capacity capacity{.factor = 1.05};
  Priority priority = Priority::position;
  double router_noise = 1;
  Index images_per_group = 0;               ///< How many images share the seats of the experts; 0: all of a pass.
  double importance = 0.005, load = 0.005;  ///< Weights of the losses on the routing, for each sparse block.
};

/// V-MoE (Riquelme et al. 2021, arXiv 2106.05974): a vision transformer with mixtures in some of its blocks, over
/// images of one size. Logits of classes from the class token, or the mean of all patches, behind the encoder's norm.
/// The forward pass takes 2 D (12 D + 2 T) T flops a dense block and image where H = 4 D, of which 4 D H T are
/// the net's; K times those in a sparse block with seats for all.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
struct Vmoe {
  using Scalar = T;
  using Aux = AuxLosses<Importance, Load>;
  using Parts = SparseTrunk<T, W, Aux>;
  using Trunk = typename Parts::Trunk;
  struct Saved {
    typename PatchEmbed<T, W>::Saved patches;
    typename LearnedPosition<T>::Saved position;
    typename Trunk::Saved trunk;
    typename Linear<T, W>::Saved head;
    const TokenLayout* layout = nullptr;  // in the workspace, since backward needs it too
  };

  VmoeOptions options;
  PatchEmbed<T, W> patch_embed;
  ClassToken<T> class_token;  // no parameter of a model that does without
  LearnedPosition<T> position;
  Trunk trunk;
  Linear<T, W> head;

  /// Throws OptionError for options that contradict each other.
  explicit Vmoe(const VmoeOptions& o)
      : options(checked(o)),
        patch_embed({.patch = o.patch, .channels = o.channels, .width = o.width}),
        class_token({.width = o.width}),
        position({.length = tokens_per_image(), .width = o.width}),
        trunk(Parts::make(o, o.images_per_group * tokens_per_image(),
                          Aux{.terms = {{.weight = o.importance}, {.weight = o.load}}}, 1)),
        head({.in = o.width, .out = o.num_classes}) {}

  static void visit(auto& v, auto&... self) {
    v("patch_embed", self.patch_embed...);
    if (detail::all_have("class token", Index{self.has_class_token()}...)) v("class_token", self.class_token...);
    v("position", self.position...);
    v("trunk", self.trunk...);
    v("head", self.head...);
  }
  static void visit_layers(auto& v, auto& self, auto&... saved) { v("trunk", self.trunk, saved.trunk...); }

  /// First weights: initialise_matrices, routers normal with 0.02, and a head of zeros, so that training starts from
  /// the loss of knowing nothing. Positions begin at sincos2d and are learnt from there, the class token at zero.
  /// Throws OptionError unless the width is a multiple of 4, 8 or more.
  void initialise(Rng& rng, Context& ctx) {
    initialise_matrices(*this, options.num_layers, rng, ctx);
    const Index across = options.image_size / options.patch;
    const auto start = sincos2d<T>({.height = across, .width_in_patches = across, .width = options.width});
    set_zero(position);
    std::ranges::copy(start.flat(), position.table.flat().end() - start.size());
    initialise_routers(*this, rng, ctx);
    init::zeros(*this, "head.weight");
  }

  bool has_class_token() const { return options.classifier == VmoeOptions::Classifier::token; }
  /// T, the class token among them.
  Index tokens_per_image() const {
    const Index across = options.image_size / options.patch;
    return across * across + (has_class_token() ? 1 : 0);
  }

  /// Seats and who gets them first may be other in use than in training: with Priority::max_gate a capacity factor well
  /// below 1 saves the patches that matter least (the paper's batch prioritized routing).
  void set_seats(const Capacity& capacity, Priority priority) {
    options.capacity = capacity;
    options.priority = priority;
    for_each_sparse(*this, [&](std::string_view, auto& sparse) {
      sparse.router.options.capacity = capacity;
      sparse.router.options.priority = priority;
    });
  }

  /// Saved lives as long as the caller's workspace scope. Throws ShapeError.
  /// // images [B, image_size, image_size, channels], logits [B, classes]
  Saved forward(View<const T, 4> images, Rows<T> logits, Context& ctx) const {
    const Index batch = images.extent(0), width = options.width, length = tokens_per_image();
    expect_shape(images, {batch, options.image_size, options.image_size, options.channels}, "Vmoe::forward: images");
    expect_shape(logits, {batch, options.num_classes}, "Vmoe::forward: logits");
    auto x = ctx.workspace.take<T>(batch * length, width), y = ctx.workspace.take<T>(batch * length, width);
    auto pooled = ctx.workspace.take<T>(batch, width);
    Saved saved;
    saved.layout = lay_out(batch, ctx);
    if (has_class_token()) {
      auto patches = ctx.workspace.take<T>(batch * (length - 1), width);
      saved.patches = patch_embed.forward(images, patches, ctx);
      class_token.forward(batch, patches, x, ctx);
    } else {
      saved.patches = patch_embed.forward(images, x, ctx);
    }
    saved.position = position.forward(saved.layout->offset, x, ctx);
    {
      const LayoutScope scope(ctx, *saved.layout);
      saved.trunk = trunk.forward(x, y, ctx);
    }
    pool<T>(pooling(), y, *saved.layout, pooled, ctx);
    saved.head = head.forward(pooled, logits, ctx);
    return saved;
  }

  /// Adds to grad, the gradient of the losses on the routing included (gatefold::aux_loss is their value). Throws
  /// ShapeError. // dlogits [B, classes]
  void backward(const Saved& saved, Rows<const T> dlogits, Vmoe& grad,
                Context& ctx) const requires TrainableStorage<W, T> {
    const auto scope = ctx.workspace.scope();
    const Index batch = saved.layout->num_sequences(), width = options.width, length = tokens_per_image();
    auto dpooled = ctx.workspace.take<T>(batch, width);
    auto dy = ctx.workspace.take<T>(batch * length, width), dx = ctx.workspace.take<T>(batch * length, width);
    head.backward(saved.head, dlogits, dpooled, grad.head, ctx);
    pool_grad<T>(pooling(), dpooled, *saved.layout, dy, ctx);
    trunk.backward(saved.trunk, dy, dx, grad.trunk, ctx);
    position.backward(saved.position, dx, grad.position, ctx);
    if (!has_class_token()) return patch_embed.backward(saved.patches, dx, grad.patch_embed, ctx);
    auto dpatches = ctx.workspace.take<T>(batch * (length - 1), width);
    class_token.backward(batch, dx, dpatches, grad.class_token, ctx);
    patch_embed.backward(saved.patches, dpatches, grad.patch_embed, ctx);
  }

  /// The same model over other weights (module/pack.hpp); norms, positions and routers stay as they are.
  template <class To>
  requires std::invocable<const To&, const W&>
  auto over(const To& to) const {
    Vmoe<T, WeightBy<To, W>> other(options);
    other.patch_embed = patch_embed.over(to);
    other.class_token = class_token;
    other.position = position;
    other.trunk = trunk.over(to);
    other.head = head.over(to);
    return other;
  }

 private:
  static const VmoeOptions& checked(const VmoeOptions& o) {
    expect_trunk_options("Vmoe", o);
    expect_size("Vmoe", "num_classes", o.num_classes);
    expect_option(o.images_per_group >= 0, "Vmoe", "images_per_group", o.images_per_group, "0 (all of a pass) or more");
    expect_rate("Vmoe", "importance", o.importance);
    expect_rate("Vmoe", "load", o.load);
    return o;
  }
  Pooling pooling() const { return has_class_token() ? Pooling::first : Pooling::mean; }

  const TokenLayout* lay_out(Index batch, Context& ctx) const {
    auto layout = ctx.workspace.take<TokenLayout>(1);
    layout[0] = equal_sequences(batch, tokens_per_image(), ctx.workspace);
    return layout.data();
  }
};

}  // namespace gatefold
