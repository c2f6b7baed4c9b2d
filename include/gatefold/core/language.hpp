#pragma once

// What the compiler must be told, and what it must not. Every header that includes no other of ours includes this one,
// so that a wrong flag is an error in words.
#if __cplusplus < 202002L
#error "gatefold needs C++20: -std=c++20"
#include <gatefold/needs/c++20>  // which nobody has: the compiler stops here, and not after 3000 further errors
#elif !defined(__cpp_exceptions)
#error "gatefold reports errors by exceptions: compile without -fno-exceptions"
#elif defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0)
// A masked expert is an infinity, a broken token a NaN; taken for impossible, they lead out of bounds.
#error "gatefold computes with infinities and NaN: compile without -ffast-math, -Ofast and -ffinite-math-only"
#elif defined(__ASSOCIATIVE_MATH__)
#error "gatefold promises its sums to the bit: compile without -fassociative-math and -funsafe-math-optimizations"
#endif
