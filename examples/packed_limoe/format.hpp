#pragma once
#include "gatefold/module/pack.hpp"
#include "packed_limoe/packed_limoe.hpp"

namespace gatefold {

template <PackedFormat F>
std::unique_ptr<PackedLimoe> pack_limoe(const Limoe<float>& model) {
  class Of final : public PackedLimoe {
   public:
    explicit Of(Limoe<float, Packed<F>> model) : PackedLimoe(model.options), model_(std::move(model)) {}
    void set_capacity(const Capacity& capacity) override {
      model_.set_capacity(capacity);
      options = model_.options;
    }
    void forward(const Limoe<float>::Batch& batch, Rows<float> z_image, Rows<float> z_text,
                 Context& ctx) const override {
      (void)model_.forward({.images = batch.images, .ids = batch.ids, .text_offset = batch.text_offset}, z_image,
                           z_text, ctx);
    }

   private:
    Limoe<float, Packed<F>> model_;
  };
  return std::make_unique<Of>(pack<F>(model));
}

}  // namespace gatefold
