#include "packed_limoe/format.hpp"

template std::unique_ptr<gatefold::PackedLimoe> gatefold::pack_limoe<gatefold::bf16>(const Limoe<float>&);
