# For our own code; CMAKE_COMPILE_WARNING_AS_ERROR (on in the presets) makes them errors.
add_library(gatefold_warnings INTERFACE)
target_compile_options(gatefold_warnings INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Guesses of the optimiser, which in GCC 12 miss within the standard library's own vector and, through a precompiled
  # header, within its own AVX-512 intrinsics: shown, but no errors.
  foreach(guess IN ITEMS array-bounds stringop-overflow stringop-overread maybe-uninitialized uninitialized)
    target_compile_options(gatefold_warnings INTERFACE -Wno-error=${guess})
  endforeach()
  # And one that at -O3 it has wrong of nearly every "text" + string (GCC bug 105651).
  target_compile_options(gatefold_warnings INTERFACE -Wno-restrict)
endif()
