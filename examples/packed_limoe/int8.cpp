#include "packed_limoe/format.hpp"

template std::unique_ptr<gatefold::PackedLimoe> gatefold::pack_limoe<gatefold::int8>(const Limoe<float>&);
