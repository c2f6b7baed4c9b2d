# What the README's program costs to compile, in functions: of those that the compiler makes of it unoptimised, how many
# are gatefold's or made for its types. A number that no machine's load moves and the standard library's version hardly
# does; time follows it. With gatefold::compiled it has to be about half.
cmake_minimum_required(VERSION 3.25)
list(TRANSFORM INCLUDES PREPEND -I)
file(MAKE_DIRECTORY ${WORK})
file(READ ${README} text)
string(REGEX MATCH "```cpp\n([^`]+)```" block "${text}")
file(WRITE ${WORK}/readme.cpp "${CMAKE_MATCH_1}")

# Compiles with further arguments as flags; no more than `most` functions are expected, and no less than half of that:
# else the budget is to be lowered, or it counts something else.
function(expect_functions most)
  execute_process(COMMAND ${COMPILER} -std=c++20 -O0 -DNDEBUG ${ARGN} ${INCLUDES} -c ${WORK}/readme.cpp
                          -o ${WORK}/readme.o
                  COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${NM} -C --defined-only ${WORK}/readme.o OUTPUT_VARIABLE names COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX REPLACE "[;[]|\\]" "_" names "${names}")  # which would mean something in a list
  string(REGEX MATCHALL "[^\n]* [TtWw] [^\n]*gatefold::[^\n]*" names "${names}")
  list(LENGTH names count)
  message(STATUS "${count} functions ${ARGN}")
  math(EXPR least "${most} / 2")
  if(count GREATER most OR count LESS least)
    message(SEND_ERROR "The README's program has ${count} functions of gatefold's, expected ${least} to ${most} "
                       "${ARGN}. See what they are: nm -C ${WORK}/readme.o | grep gatefold::")
  endif()
endfunction()

# g++ 12: 2,330 and 1,323, of which some 150 are for routers of other scores than softmax; g++ 13: 2,519 and 1,285;
# clang++ 14 some 15 % fewer.
expect_functions(2600)
expect_functions(1400 "-DGATEFOLD_COMPILED=extern template" -DGATEFOLD_COMPILED_IO=0)
