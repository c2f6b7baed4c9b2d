// refused: rows look at each other in this layer; it cannot decode
#include "gatefold/blocks/encoder_block.hpp"
#include "gatefold/blocks/soft_moe.hpp"
#include "gatefold/nn/mlp.hpp"

using namespace gatefold;

// A mixture that mixes the tokens themselves has no answer for new ones alone, be there a cache of attention beside it.
#ifdef GATEFOLD_OFFEND
using Ffn = SoftMoe<Mlp<float>>;
#else
using Ffn = Mlp<float>;
#endif

auto take(const EncoderBlock<Ffn>& block) { return make_cache(block, {.capacity = 4}); }
