# For our own code; CMAKE_COMPILE_WARNING_AS_ERROR (on in the presets) makes them errors.
add_library(gatefold_warnings INTERFACE)
target_compile_options(gatefold_warnings INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Guesses of the optimiser, which miss within the standard library's own vector: shown, but no errors. GCC 12 has them
  # wrong of its own AVX-512 intrinsics too, some seven hundred times: not even shown.
  foreach(guess IN ITEMS stringop-overflow stringop-overread array-bounds maybe-uninitialized uninitialized)
    if(CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13 AND NOT guess MATCHES "^stringop")
      target_compile_options(gatefold_warnings INTERFACE -Wno-${guess})
    else()
      target_compile_options(gatefold_warnings INTERFACE -Wno-error=${guess})
    endif()
  endforeach()
  # And one that at -O3 it has wrong of nearly every "text" + string (GCC bug 105651).
  target_compile_options(gatefold_warnings INTERFACE -Wno-restrict)
endif()
