#include "zero_shot/clip_format_of.hpp"

template zero_shot::ClipFormat zero_shot::clip_format<gatefold::int4>();
