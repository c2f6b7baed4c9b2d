#include "packed_limoe/format.hpp"

template std::unique_ptr<gatefold::PackedLimoe> gatefold::pack_limoe<float>(const Limoe<float>&);
