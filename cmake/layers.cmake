# The include rule of the library, as a test: cmake -P cmake/layers.cmake
#   A header includes its own folder or a folder of a lower level; of the same level, only kernels sees module.
#   Third-party headers enter through the few places listed below; core sees the standard library only.
cmake_minimum_required(VERSION 3.25)

set(levels
    "core"
    "module kernels interop"
    "nn routing losses io text image train"
    "blocks"
    "adapt"
    "models")
# <header that begins so> -> the files that may include it; both are regular expressions.
set(third_party
    "xsimd/ -> kernels/simd\\.hpp"
    "immintrin\\.h -> kernels/(avx512|amx)\\.hpp"
    "(unsupported/)?Eigen/ -> kernels/matmul_eigen\\.hpp|interop/.*"
    "nlohmann/ -> io/.*|models/.*"
    "xxhash\\.h -> io/checksum\\.hpp"
    "(stb/.*|(assert|limits|math|stdarg|stddef|stdint|stdlib|string)\\.h)$ -> image/stb\\.hpp"
    "webp/ -> image/webp\\.hpp"
    "libheif/ -> image/heif\\.hpp"
    "utf8proc -> text/.*"
    "omp\\.h -> core/parallel\\.hpp"
    "(cpuid|sys/syscall|unistd)\\.h -> core/cpu\\.hpp"
    "(sys/stat|fcntl|poll|unistd)\\.h -> core/read_file\\.hpp"
    "sys/mman\\.h -> core/aligned_memory\\.hpp"
    "(sys/.*|fcntl|unistd)\\.h -> io/.*"
    "unistd\\.h -> train/progress\\.hpp")
# Slow to compile, and no business of a library.
set(unwanted iostream regex)

# Sets `out` to the violations of the headers under `root`, one «file: reason» each.
function(find_violations root out)
  set(violations "")
  set(level 0)
  foreach(folders IN LISTS levels)
    string(REPLACE " " ";" folders ${folders})
    foreach(folder IN LISTS folders)
      set(level_of_${folder} ${level})
    endforeach()
    math(EXPR level "${level} + 1")
  endforeach()

  file(GLOB_RECURSE headers RELATIVE ${root} ${root}/*)
  foreach(header IN LISTS headers)
    if(NOT header MATCHES "^([a-z]+)/[a-z0-9_]+\\.hpp$")
      if(NOT header MATCHES "^(gatefold|version)\\.hpp$")
        list(APPEND violations "${header}: expected <folder>/<name>.hpp")
      endif()
      continue()
    endif()
    set(folder ${CMAKE_MATCH_1})
    if(NOT DEFINED level_of_${folder})
      list(APPEND violations "${header}: the folder has no level")
      continue()
    endif()
    file(STRINGS ${root}/${header} includes REGEX "^[ \t]*#[ \t]*include")
    foreach(line IN LISTS includes)
      if(line MATCHES "\"gatefold/([a-z]+)/[^\"]+\"")
        set(other ${CMAKE_MATCH_1})
        if(other STREQUAL folder OR (folder STREQUAL "kernels" AND other STREQUAL "module"))
          continue()
        endif()
        if(NOT DEFINED level_of_${other} OR NOT level_of_${other} LESS level_of_${folder})
          list(APPEND violations "${header}: ${folder} may not include ${other}")
        endif()
      elseif(line MATCHES "<([^>]+)>")
        set(included ${CMAKE_MATCH_1})
        if(included MATCHES "^[a-z_]+$")
          if(included IN_LIST unwanted)
            list(APPEND violations "${header}: <${included}> is unwanted")
          endif()
          continue()
        endif()
        set(allowed FALSE)
        foreach(rule IN LISTS third_party)
          string(REGEX MATCH "^(.+) -> (.+)$" rule "${rule}")
          set(what "${CMAKE_MATCH_1}")
          set(where "${CMAKE_MATCH_2}")
          if(included MATCHES "^(${what})" AND header MATCHES "^(${where})$")
            set(allowed TRUE)
          endif()
        endforeach()
        if(NOT allowed)
          list(APPEND violations "${header}: may not include <${included}>")
        endif()
      else()
        list(APPEND violations "${header}: write \"gatefold/<folder>/<name>.hpp\", not ${line}")
      endif()
    endforeach()
  endforeach()
  set(${out} "${violations}" PARENT_SCOPE)
endfunction()

# The rule sees what it should: each of these headers breaks it, or keeps it.
string(RANDOM LENGTH 8 plant)
set(plant ${CMAKE_CURRENT_BINARY_DIR}/layers-${plant})
function(expect_violations header line count)
  file(WRITE ${plant}/${header} "#pragma once\n${line}\n")
  find_violations(${plant} violations)
  file(REMOVE_RECURSE ${plant})
  list(LENGTH violations found)
  if(NOT found EQUAL count)
    message(SEND_ERROR "${line} in ${header}: expected ${count} violations, found «${violations}»")
  endif()
endfunction()
expect_violations(core/a.hpp "#include \"gatefold/module/module.hpp\"" 1)
expect_violations(core/a.hpp "#include <Eigen/Core>" 1)
expect_violations(core/a.hpp "#include \"view.hpp\"" 1)
expect_violations(core/a.hpp "#include <vector>" 0)
expect_violations(module/a.hpp "#include \"gatefold/kernels/matmul.hpp\"" 1)
expect_violations(kernels/a.hpp "#include \"gatefold/module/module.hpp\"" 0)
expect_violations(kernels/a.hpp "  #  include <xsimd/xsimd.hpp>" 1)
expect_violations(kernels/simd.hpp "#include <xsimd/xsimd.hpp>" 0)
expect_violations(kernels/simd.hpp "#include <Eigen/Core>" 1)
expect_violations(nn/a.hpp "#include \"gatefold/routing/routing.hpp\"" 1)
expect_violations(train/a.hpp "#include \"gatefold/io/checkpoint.hpp\"" 1)
expect_violations(image/a.hpp "#include <nlohmann/json.hpp>" 1)
expect_violations(blocks/a.hpp "#include \"gatefold/models/clip.hpp\"" 1)
expect_violations(models/a.hpp "#include \"gatefold/blocks/sparse_mlp.hpp\"" 0)
expect_violations(losses/a.hpp "#include <iostream>" 1)
expect_violations(utils/a.hpp "#include <vector>" 1)
expect_violations(core/A.hpp "#include <vector>" 1)

find_violations(${CMAKE_CURRENT_LIST_DIR}/../include/gatefold violations)
foreach(violation IN LISTS violations)
  message(SEND_ERROR ${violation})
endforeach()
