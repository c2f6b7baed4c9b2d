# The include rule of the library, as a test: cmake -P cmake/layers.cmake
#   A header includes its own folder or a folder of a lower level.
#   Third-party headers enter through the few places listed below; core sees the standard library only.
#   A header that stands on no other of ours begins with core/language.hpp, which refuses what we do not compile with.
#   The umbrella header brings every header that needs no further package, but for the folders of such packages.
cmake_minimum_required(VERSION 3.25)

set(levels
    "core"
    "module interop"
    "simd"
    "products"
    "kernels"
    "nn routing losses io text image train"
    "blocks"
    "adapt"
    "models")
# <header that begins so> -> the files that may include it; both are regular expressions.
set(third_party
    "xsimd/ -> simd/simd\\.hpp"
    "immintrin\\.h -> products/(avx512|amx)\\.hpp"
    "(unsupported/)?Eigen/ -> products/matmul_eigen\\.hpp|interop/.*|adapt/attention_rank\\.hpp"
    "nlohmann/ -> io/.*|models/.*"
    "xxhash\\.h -> io/checksum\\.hpp"
    "(stb/.*|stb_image(_write)?\\.h|(assert|limits|math|stdarg|stddef|stdint|stdlib|string)\\.h)$ -> image/stb\\.hpp"
    "webp/ -> image/webp\\.hpp"
    "libheif/ -> image/heif\\.hpp"
    "utf8proc -> text/.*"
    "omp\\.h -> core/parallel\\.hpp"
    "(cpuid|sys/syscall|unistd)\\.h -> core/cpu\\.hpp"
    "(sys/stat|fcntl|poll|unistd)\\.h -> core/read_file\\.hpp"
    "sys/mman\\.h -> core/aligned_memory\\.hpp"
    "(sys/.*|fcntl|unistd)\\.h -> io/.*"
    "unistd\\.h -> train/progress\\.hpp"
    "gatefold/needs/c\\+\\+20 -> core/language\\.hpp")
# What the umbrella header leaves to others, with all that stands on it: folders, and packages beyond those of the core.
set(further_folders "^(io|image|text)/")
set(further_packages "^(nlohmann/|Eigen/SVD|fcntl\\.h)")  # elsewhere; the others are in these folders only
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
      if(NOT header MATCHES "^(gatefold|compiled|version)\\.hpp$")
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
    if(NOT "${includes}" MATCHES "\"gatefold/" AND NOT header STREQUAL "core/language.hpp")
      list(APPEND violations "${header}: stands on no other header, expected \"gatefold/core/language.hpp\"")
    endif()
    foreach(line IN LISTS includes)
      if(line MATCHES "\"gatefold/([a-z]+)/[^\"]+\"")
        set(other ${CMAKE_MATCH_1})
        if(other STREQUAL folder)
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

# Sets `reached` to the headers that `header` brings, itself among them, and `further` to whether they need a package
# beyond those of the core.
function(find_reached root header)
  set(reached ${header})
  set(open ${header})
  set(further FALSE)
  while(open)
    list(POP_FRONT open next)
    file(STRINGS ${root}/${next} includes REGEX "^[ \t]*#[ \t]*include")
    foreach(line IN LISTS includes)
      if(line MATCHES "\"gatefold/([^\"]+)\"" AND NOT CMAKE_MATCH_1 IN_LIST reached)
        list(APPEND reached ${CMAKE_MATCH_1})
        list(APPEND open ${CMAKE_MATCH_1})
        if(CMAKE_MATCH_1 MATCHES "${further_folders}")
          set(further TRUE)
        endif()
      elseif(line MATCHES "<([^>]+)>" AND CMAKE_MATCH_1 MATCHES "${further_packages}")
        set(further TRUE)
      endif()
    endforeach()
  endwhile()
  set(reached "${reached}" PARENT_SCOPE)
  set(further ${further} PARENT_SCOPE)
endfunction()

# Sets `out` to the headers that gatefold.hpp leaves out though they need no more than it does, and those it should not
# bring.
function(find_left_out root out)
  set(left_out "")
  find_reached(${root} gatefold.hpp)
  set(brought "${reached}")
  if(further)
    list(APPEND left_out "gatefold.hpp: brings a package beyond those of the core")
  endif()
  file(GLOB_RECURSE headers RELATIVE ${root} ${root}/*.hpp)
  foreach(header IN LISTS headers)
    if(header MATCHES "${further_folders}" OR header STREQUAL "compiled.hpp" OR header IN_LIST brought)
      continue()
    endif()
    find_reached(${root} ${header})
    if(NOT further)
      list(APPEND left_out "gatefold.hpp: leaves out ${header}, which needs no further package")
    endif()
  endforeach()
  set(${out} "${left_out}" PARENT_SCOPE)
endfunction()

# The rule sees what it should: each of these headers breaks it, or keeps it.
string(RANDOM LENGTH 8 plant)
set(plant ${CMAKE_CURRENT_BINARY_DIR}/layers-${plant})
function(expect_violations header line count)
  file(WRITE ${plant}/${header} "#pragma once\n#include \"gatefold/core/language.hpp\"\n${line}\n")
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
expect_violations(module/a.hpp "#include \"gatefold/products/matmul.hpp\"" 1)
expect_violations(products/a.hpp "#include \"gatefold/kernels/softmax.hpp\"" 1)
expect_violations(kernels/a.hpp "#include \"gatefold/module/module.hpp\"" 0)
expect_violations(kernels/a.hpp "  #  include <xsimd/xsimd.hpp>" 1)
expect_violations(simd/simd.hpp "#include <xsimd/xsimd.hpp>" 0)
expect_violations(simd/simd.hpp "#include <Eigen/Core>" 1)
expect_violations(nn/a.hpp "#include \"gatefold/routing/routing.hpp\"" 1)
expect_violations(train/a.hpp "#include \"gatefold/io/checkpoint.hpp\"" 1)
expect_violations(image/a.hpp "#include <nlohmann/json.hpp>" 1)
expect_violations(blocks/a.hpp "#include \"gatefold/models/clip.hpp\"" 1)
expect_violations(models/a.hpp "#include \"gatefold/blocks/sparse_mlp.hpp\"" 0)
expect_violations(losses/a.hpp "#include <iostream>" 1)
expect_violations(utils/a.hpp "#include <vector>" 1)
expect_violations(core/A.hpp "#include <vector>" 1)

file(WRITE ${plant}/core/alone.hpp "#include <vector>\n")
find_violations(${plant} violations)
if(NOT violations MATCHES "core/alone.hpp: stands on no other")
  message(SEND_ERROR "a header without core/language.hpp: found «${violations}»")
endif()
file(WRITE ${plant}/gatefold.hpp "#include \"gatefold/core/a.hpp\"\n")
file(WRITE ${plant}/core/a.hpp "#include \"gatefold/core/b.hpp\"\n")
file(WRITE ${plant}/core/b.hpp "#include \"gatefold/core/a.hpp\"\n")
file(WRITE ${plant}/io/json.hpp "#include <vector>\n")
file(WRITE ${plant}/models/from_file.hpp "#include \"gatefold/io/json.hpp\"\n")
file(WRITE ${plant}/models/from_json.hpp "#include <nlohmann/json.hpp>\n")
find_left_out(${plant} left_out)
if(NOT left_out MATCHES "leaves out core/alone.hpp" OR left_out MATCHES ";|a.hpp,|b.hpp,|json|from_")
  message(SEND_ERROR "headers that the umbrella leaves out: found «${left_out}»")
endif()
file(REMOVE_RECURSE ${plant})

find_violations(${CMAKE_CURRENT_LIST_DIR}/../include/gatefold violations)
find_left_out(${CMAKE_CURRENT_LIST_DIR}/../include/gatefold left_out)
list(APPEND violations ${left_out})
foreach(violation IN LISTS violations)
  message(SEND_ERROR ${violation})
endforeach()
