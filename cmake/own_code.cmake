# gatefold_own_code: the flags of our tests, benchmarks and examples. Nothing of it reaches a user of the library.
include(cmake/warnings.cmake)
add_library(gatefold_own_code INTERFACE)
target_link_libraries(gatefold_own_code INTERFACE gatefold::gatefold gatefold_warnings)
if(GATEFOLD_NATIVE)
  target_compile_options(gatefold_own_code INTERFACE -march=native)
endif()
if(GATEFOLD_SANITIZE)
  set(flags -fsanitize=${GATEFOLD_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_compile_options(gatefold_own_code INTERFACE ${flags})
  target_link_options(gatefold_own_code INTERFACE ${flags})
endif()
# A program has one set of flags, and so have the parts of it that gatefold::compiled brings.
target_link_libraries(gatefold_compiled PRIVATE gatefold_own_code)
