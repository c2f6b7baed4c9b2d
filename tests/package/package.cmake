cmake_minimum_required(VERSION 3.25)
set(prefix "${WORK}/moved prefix")

# Sets `output` to what a command says; one that fails ends the test.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(result)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

# A project that asks for `components` of a version is refused, and CMake says `words`. More arguments go to it.
function(expect_refusal version components words)
  execute_process(
    COMMAND ${CMAKE_COMMAND} -S ${SOURCE}/tests/package/refused -B ${WORK}/refused --fresh -D VERSION=${version}
            -D "COMPONENTS=${components}" -D "CMAKE_PREFIX_PATH=${prefix}" -D CMAKE_FIND_USE_PACKAGE_REGISTRY=OFF ${ARGN}
    RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result)
    message(SEND_ERROR "found ${version} ${components}")
  endif()
  string(REGEX REPLACE "[ \n]+" " " output "${output}")  # CMake wraps lines
  foreach(word IN LISTS words)
    string(FIND "${output}" "${word}" at)
    if(at EQUAL -1)
      message(SEND_ERROR "${version} ${components}: nothing says «${word}»:\n${output}")
    endif()
  endforeach()
endfunction()

if(WAY STREQUAL "install")
  file(REMOVE_RECURSE ${prefix} ${WORK}/staged)
  run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/staged)
  file(RENAME ${WORK}/staged ${prefix})
  return()
elseif(WAY STREQUAL "refused")
  set(no_json -D CMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON)
  set(no_stb -D GATEFOLD_STB_INCLUDE_DIR=/nowhere)
  expect_refusal(99 "" "requested version \"99\";version: ${VERSION}")
  expect_refusal(${VERSION} "io;teapot" "there is no gatefold::teapot, only io, image, text")
  expect_refusal(${VERSION} "io;image" "gatefold::io needs nlohmann_json 3.11 or later (;Debian: nlohmann-json3-dev)\
;gatefold::image needs stb (no stb/stb_image.h: GATEFOLD_STB_INCLUDE_DIR is /nowhere" ${no_json} ${no_stb})
  expect_refusal(${VERSION} image "GATEFOLD_STB_INCLUDE_DIR-NOTFOUND;Debian: libstb-dev"
                 -D CMAKE_IGNORE_PATH=/usr/include)  # where no such header is anywhere
  expect_refusal(${VERSION} "" "gatefold needs Eigen3 (5, 3.4" -D CMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON)
  return()
endif()

cmake_path(GET COMPILER FILENAME name)
set(binary ${WORK}/${WAY}-${name})
file(REMOVE_RECURSE ${binary})
file(MAKE_DIRECTORY ${binary})
set(flags -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)
set(programs io)
if(WAY STREQUAL "pkg_config")
  set(programs io image text)
  set(ENV{PKG_CONFIG_PATH} ${prefix}/share/pkgconfig:$ENV{PKG_CONFIG_PATH})
  foreach(program IN LISTS programs)
    run(${PKG_CONFIG} --print-errors --cflags --libs "gatefold-${program} = ${VERSION}")
    string(REGEX REPLACE "-I([^ ]*eigen3)" "-isystem \\1" output "${output}")  # warn in our headers, not in Eigen's
    separate_arguments(package UNIX_COMMAND "${output}")
    run(${COMPILER} -std=c++20 ${flags} ${SOURCE}/tests/package/consumer/${program}.cpp -o ${binary}/${program}
        ${package})
  endforeach()
else()
  list(JOIN flags " " flags)
  set(build_type "")
  set(kernels "")  # gatefold::compiled takes half a minute: once from the installed tree, once from the sources
  if(WAY STREQUAL "find_package")
    set(programs io image text)
    set(kernels gatefold,compiled)
  elseif(WAY STREQUAL "fetch_content")
    # What the optimiser believes to see in our headers, which are no system's here.
    set(build_type Release)
    set(programs io readme)
  else()
    # The same of the compiler's own vector headers, where ours bring them.
    string(APPEND flags " -O2 -march=native")
    set(kernels compiled)
    list(APPEND programs files_compiled)
  endif()
  run(${CMAKE_COMMAND} -S ${SOURCE}/tests/package/consumer -B ${binary} -G ${GENERATOR} -D WAY=${WAY}
      -D CMAKE_CXX_COMPILER=${COMPILER} -D CMAKE_CXX_FLAGS=${flags} -D CMAKE_BUILD_TYPE=${build_type}
      -D "CMAKE_PREFIX_PATH=${prefix}" -D GATEFOLD_SOURCE=${SOURCE} -D GATEFOLD_VERSION=${VERSION}
      -D README=${SOURCE}/README.md -D KERNELS=${kernels})
  run(${CMAKE_COMMAND} --build ${binary})
endif()
foreach(program IN LISTS programs)
  run(${CMAKE_COMMAND} -E chdir ${binary} ${binary}/${program})
  if(program STREQUAL "readme")
    string(REGEX MATCHALL "loss [0-9.]+" losses "${output}")  # what it trains must learn
    list(TRANSFORM losses REPLACE "loss " "")
    list(GET losses 0 first)
    list(GET losses -1 last)
    if(NOT last LESS first)
      message(FATAL_ERROR "The README's program does not learn:\n${output}")
    endif()
  endif()
endforeach()

# With gatefold::compiled no file of a program defines a kernel or what reads and writes files, while without it each
# does, and the results are the same to the last bit.
if(WAY STREQUAL "find_package")
  foreach(kernels IN ITEMS gatefold compiled)
    run(${CMAKE_COMMAND} -E chdir ${binary} ${binary}/files_${kernels})
    set(result_${kernels} "${output}")
    foreach(file IN ITEMS train infer)
      file(GLOB_RECURSE object ${binary}/CMakeFiles/files_${kernels}.dir/files/${file}.*)
      list(FILTER object INCLUDE REGEX "\\.o(bj)?$")
      run(${NM} -C --defined-only ${object})
      string(REGEX MATCHALL "gatefold::(kernels::(multiply_f32|detail::tile_f32|matmul<float, gatefold::bf16>|\
packed_ffn<gatefold::bf16>|combine_rows<float>)|\
SafeTensors(Writer::emit|::parse)|gate_forward<float>|gate_backward<float>|plan_top_k<float>)" names "${output}")
      list(REMOVE_DUPLICATES names)
      list(LENGTH names count_${kernels})
      if(kernels STREQUAL "gatefold" AND count_gatefold LESS 5)
        message(SEND_ERROR "${object} defines only ${names}: these are not the names to look for")
      elseif(kernels STREQUAL "compiled" AND count_compiled)
        message(SEND_ERROR "${object} defines ${names}, which gatefold::compiled has")
      endif()
    endforeach()
  endforeach()
  if(NOT result_gatefold STREQUAL result_compiled)
    message(SEND_ERROR "results differ: ${result_gatefold}, with gatefold::compiled ${result_compiled}")
  endif()
endif()
