# Prints how long the compiler reads our headers, beside those that they stand on: cmake --build <dir> --target parse_time
# The best of five, since a machine is never slower than it can be. Information, not a test: time is no property of code.
# We aim at less than Eigen and xsimd together plus 0.6 s.
cmake_minimum_required(VERSION 3.25)
list(TRANSFORM INCLUDES PREPEND -I)
file(MAKE_DIRECTORY ${WORK})
foreach(case IN ITEMS "Eigen/Core" "xsimd/xsimd.hpp" "Eigen/Core xsimd/xsimd.hpp" "gatefold/core/context.hpp"
                      "gatefold/gatefold.hpp")
  string(REPLACE " " ";" headers "${case}")
  list(TRANSFORM headers REPLACE "(.+)" "#include <\\1>\n")
  list(JOIN headers "" text)
  file(WRITE ${WORK}/parse_time.cpp "${text}")
  set(best 1000000000)
  foreach(turn RANGE 1 5)
    string(TIMESTAMP begin "%s%f")
    execute_process(COMMAND ${COMPILER} -std=c++20 -fsyntax-only ${FLAGS} ${INCLUDES} ${WORK}/parse_time.cpp
                    COMMAND_ERROR_IS_FATAL ANY)
    string(TIMESTAMP end "%s%f")
    math(EXPR time "(${end} - ${begin}) / 1000")
    if(time LESS best)
      set(best ${time})
    endif()
  endforeach()
  message("${best} ms  ${case}")
endforeach()
