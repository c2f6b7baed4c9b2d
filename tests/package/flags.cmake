# One set of -m flags per program: objects with the same flags link and run; objects with different ones do not link, and
# the linker names what they were compiled for. The names of the kernels tell it too, and so cannot meet in libraries.
cmake_minimum_required(VERSION 3.25)
file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK})
list(TRANSFORM INCLUDES PREPEND -I)

# Compiles a source with more arguments to <source>-<level>.o.
function(compile source level)
  execute_process(COMMAND ${COMPILER} -std=c++20 -O0 -march=${level} ${INCLUDES} ${ARGN} -c
                          ${CMAKE_CURRENT_LIST_DIR}/flags/${source}.cpp -o ${WORK}/${source}-${level}.o
                  COMMAND_ERROR_IS_FATAL ANY)
endfunction()

# Links objects, in this order; sets `errors` to what the linker says, empty if it links.
function(link)
  list(TRANSFORM ARGN APPEND .o)
  execute_process(COMMAND ${COMPILER} ${ARGN} -o program WORKING_DIRECTORY ${WORK} RESULT_VARIABLE result
                  ERROR_VARIABLE errors)
  if(result AND NOT errors)
    message(FATAL_ERROR "The linker says nothing")
  elseif(NOT result)
    set(errors "")
  endif()
  set(errors "${errors}" PARENT_SCOPE)
endfunction()

# Sets `names` to the functions and variables that an object defines for others too, but not those of the libraries.
function(read_kernel_names object)
  execute_process(COMMAND ${NM} -C --defined-only --extern-only ${WORK}/${object}.o OUTPUT_VARIABLE names
                  COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "gatefold::kernels::[^\n]*(Context|simd::)[^\n]*" names "${names}")
  set(names "${names}" PARENT_SCOPE)
endfunction()

set(levels x86-64 x86-64-v3 x86-64-v4)
set(x86-64 sse2)
set(x86-64-v3 avx2_fma)
set(x86-64-v4 avx512)
foreach(level IN LISTS levels)
  compile(add_one ${level})
  compile(main ${level})

  read_kernel_names(main-${level})
  list(LENGTH names count)
  if(count LESS 3)
    message(SEND_ERROR "${level}: expected map_rows, for_each_row and simd::transform, found «${names}»")
  endif()
  foreach(name IN LISTS names)
    if(NOT name MATCHES "compiled_for_${${level}}::Context|xsimd::")
      message(SEND_ERROR "${level}: the name does not tell it: ${name}")
    endif()
    if(name IN_LIST all_names)
      message(SEND_ERROR "${level}: another level has the same name ${name}")
    endif()
  endforeach()
  list(APPEND all_names ${names})
endforeach()

foreach(one IN LISTS levels)
  foreach(other IN LISTS levels)
    link(main-${one} add_one-${other})
    if(one STREQUAL other)
      if(errors)
        message(SEND_ERROR "Two objects for ${one} do not link:\n${errors}")
      endif()
    elseif(NOT errors MATCHES "gatefold_compiled_for_${${other}}")
      message(SEND_ERROR "An object for ${one} and one for ${other}: expected «gatefold_compiled_for_${${other}}», the "
                         "linker says «${errors}»")
    endif()
  endforeach()
endforeach()

# gatefold::compiled is such an object as well. That it links with its own flags is seen in package.find_package.
compile(compiled x86-64)
compile(uses_kernels x86-64-v3 "-DGATEFOLD_COMPILED=extern template")
link(uses_kernels-x86-64-v3 compiled-x86-64)
if(NOT errors MATCHES "compiled_for_(sse2|avx2_fma)")
  message(SEND_ERROR "gatefold::compiled for x86-64 in a program for x86-64-v3: the linker says «${errors}»")
endif()

link(main-x86-64 add_one-x86-64)
execute_process(COMMAND ${WORK}/program COMMAND_ERROR_IS_FATAL ANY)

# A CPU that lacks what the program was compiled for is refused in words, not by an illegal instruction.
if(QEMU)
  link(main-x86-64-v4 add_one-x86-64-v4)
  execute_process(COMMAND ${QEMU} -cpu Haswell ${WORK}/program RESULT_VARIABLE result ERROR_VARIABLE errors)
  set(wanted "gatefold: the program was compiled for avx512f, avx512cd, avx512dq, avx512bw, avx512vl, which this CPU has \
not. compile it with -march=x86-64-v3\n")
  if(NOT result EQUAL 1 OR NOT errors MATCHES "${wanted}$")
    message(SEND_ERROR "A program for x86-64-v4 on a Haswell ends with ${result} and «${errors}», expected «${wanted}»")
  endif()
endif()
