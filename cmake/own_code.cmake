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

# A few files as one: what they share is instantiated once, which halves the time that tests take to compile. A file
# whose helpers bear names that another's bear as well has a namespace of its own name.
function(gatefold_compile_quickly target)
  if(GATEFOLD_QUICK_BUILD)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 4)
  endif()
endfunction()
