#pragma once
#include "gatefold/core/language.hpp"

/// Where those functions of io/ are compiled that take long, mostly because of the JSON library: in every file that
/// includes them or, in a program that links gatefold::compiled, once in that target. It sets GATEFOLD_COMPILED_IO to 0
/// for its users, who then do not even read that library's header, and to 1 in its own file.
#ifndef GATEFOLD_COMPILED_IO
#define GATEFOLD_IO_HERE 1
#define GATEFOLD_IO_FUNCTION inline
#else
#define GATEFOLD_IO_HERE GATEFOLD_COMPILED_IO
#define GATEFOLD_IO_FUNCTION
#endif
