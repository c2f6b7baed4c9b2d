# What gatefold stands on, found the same way by its own build and by the installed package.

# Finds a package in any of the versions named, newest first. A version range will not do: the version files of Eigen
# and xsimd accept one major version only, and refuse every range that spans two.
macro(gatefold_find_any package target)
  foreach(gatefold_version IN ITEMS ${ARGN})
    if(NOT TARGET ${target})
      find_package(${package} ${gatefold_version} QUIET CONFIG)
    endif()
  endforeach()
  if(NOT TARGET ${target})
    string(REPLACE ";" ", " gatefold_versions "${ARGN}")
    set(gatefold_found "none")
    if(${package}_CONSIDERED_VERSIONS)
      set(gatefold_found "${${package}_CONSIDERED_VERSIONS}")
    endif()
    string(APPEND gatefold_missing "\n  ${package} (${gatefold_versions}; found: ${gatefold_found})")
  endif()
endmacro()

# Sets gatefold_missing, which is empty when all is there. OpenMP is welcome, not needed.
macro(gatefold_find_dependencies)
  set(gatefold_missing "")
  gatefold_find_any(Eigen3 Eigen3::Eigen 5 3.4)
  gatefold_find_any(xsimd xsimd 14 13 12 11 10 9 8.1)
  if(TARGET xsimd AND NOT TARGET xtl)
    # Debian's package links a library xtl, which it neither brings nor needs.
    get_target_property(gatefold_links xsimd INTERFACE_LINK_LIBRARIES)
    if("xtl" IN_LIST gatefold_links)
      list(REMOVE_ITEM gatefold_links xtl)
      set_property(TARGET xsimd PROPERTY INTERFACE_LINK_LIBRARIES ${gatefold_links})
    endif()
  endif()
  if(NOT TARGET OpenMP::OpenMP_CXX)
    find_package(OpenMP QUIET COMPONENTS CXX)
  endif()
endmacro()

# The parts with needs of their own: gatefold::io reads JSON and sums with xxHash (its header alone), gatefold::image
# decodes pictures, gatefold::text folds Unicode.
set(gatefold_components io image text)
set(gatefold_needs_io nlohmann_json xxhash)
set(gatefold_needs_image stb webp heif)
set(gatefold_needs_text utf8proc)

# How a package is found: by the CMake files that it brings (TARGET, VERSION), or as a HEADER, which elsewhere
# is another (OR_HEADER), and maybe a LIBRARY.
# PKG_CONFIG is its module there, if its makers give one. A part does without a package that is OPTIONAL; where it is
# there, the macro named is 1.
set(gatefold_package_nlohmann_json TARGET nlohmann_json::nlohmann_json VERSION 3.11 PKG_CONFIG nlohmann_json
                                   DEBIAN nlohmann-json3-dev)
set(gatefold_package_xxhash HEADER xxhash.h DEBIAN libxxhash-dev)
set(gatefold_package_stb HEADER stb/stb_image.h OR_HEADER stb_image.h DEBIAN libstb-dev)
set(gatefold_package_webp HEADER webp/decode.h LIBRARY webp PKG_CONFIG libwebp DEBIAN libwebp-dev
                          OPTIONAL GATEFOLD_HAS_WEBP)
set(gatefold_package_heif HEADER libheif/heif.h LIBRARY heif PKG_CONFIG libheif DEBIAN libheif-dev
                          OPTIONAL GATEFOLD_HAS_HEIF)
set(gatefold_package_utf8proc HEADER utf8proc.h LIBRARY utf8proc PKG_CONFIG libutf8proc DEBIAN libutf8proc-dev)

# Sets package_<field> to the fields of a package above; those that it lacks are empty.
macro(gatefold_read_package name)
  cmake_parse_arguments(package "" "TARGET;VERSION;HEADER;OR_HEADER;LIBRARY;PKG_CONFIG;DEBIAN;OPTIONAL" ""
                        ${gatefold_package_${name}})
endmacro()

# Sets `includes`, `libraries` and, where something is missing, `missing`: what and where it was looked for.
function(gatefold_find_package name)
  gatefold_read_package(${name})
  set(includes "")
  set(libraries "")
  set(missing "")
  if(package_TARGET)
    if(NOT TARGET ${package_TARGET})
      find_package(${name} ${package_VERSION} QUIET CONFIG)
    endif()
    set(libraries ${package_TARGET})
    if(NOT TARGET ${package_TARGET})
      set(missing "${name} ${package_VERSION} or later (${name}_DIR is ${${name}_DIR}")
      if(${name}_CONSIDERED_VERSIONS)
        string(APPEND missing ", found: ${${name}_CONSIDERED_VERSIONS}")
      endif()
    endif()
  else()
    string(TOUPPER GATEFOLD_${name} prefix)
    find_path(${prefix}_INCLUDE_DIR NAMES ${package_HEADER} ${package_OR_HEADER} DOC "Folder of ${package_HEADER}")
    set(includes ${${prefix}_INCLUDE_DIR})
    if(NOT EXISTS ${includes}/${package_HEADER} AND NOT (package_OR_HEADER AND EXISTS ${includes}/${package_OR_HEADER}))
      set(missing "${name} (no ${package_HEADER}: ${prefix}_INCLUDE_DIR is ${includes}")
    elseif(package_LIBRARY)
      find_library(${prefix}_LIBRARY ${package_LIBRARY} DOC "The library ${package_LIBRARY}")
      set(libraries ${${prefix}_LIBRARY})
      if(NOT libraries)
        set(missing "${name} (no library ${package_LIBRARY}: ${prefix}_LIBRARY is ${libraries}")
      endif()
    endif()
  endif()
  # Not if(missing): a text that ends in -NOTFOUND is false.
  if(NOT missing STREQUAL "")
    string(APPEND missing "; Debian: ${package_DEBIAN})")
  endif()
  foreach(result IN ITEMS includes libraries missing)
    set(${result} "${${result}}" PARENT_SCOPE)
  endforeach()
endfunction()

# Defines gatefold::compiled: the kernels for float (gatefold/compiled.hpp) and, where gatefold::io is found, files
# (gatefold/io/compiled_once.hpp), once for all that link it. It is built in the project that uses it and with that
# project's flags, since a program has one set of -m flags, and only where something links it. Arguments as for
# gatefold_add_component.
function(gatefold_add_compiled)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/gatefold_compiled)
  file(CONFIGURE OUTPUT ${source}.cpp
       CONTENT "#define GATEFOLD_COMPILED template\n#include \"gatefold/compiled.hpp\"\n")
  add_library(gatefold_compiled STATIC EXCLUDE_FROM_ALL ${source}.cpp)
  add_library(gatefold::compiled ALIAS gatefold_compiled)
  target_link_libraries(gatefold_compiled PUBLIC gatefold::gatefold)
  target_compile_definitions(gatefold_compiled INTERFACE "GATEFOLD_COMPILED=extern template")
  gatefold_add_component(io ${ARGN})
  if(TARGET gatefold::io)
    file(CONFIGURE OUTPUT ${source}_io.cpp
         CONTENT "#define GATEFOLD_COMPILED_IO 1\n#include \"gatefold/io/safetensors_writer.hpp\"\n")
    target_sources(gatefold_compiled PRIVATE ${source}_io.cpp)
    target_link_libraries(gatefold_compiled PUBLIC gatefold::io)
    target_compile_definitions(gatefold_compiled INTERFACE GATEFOLD_COMPILED_IO=0)
  endif()
endfunction()

# Defines gatefold::<component> where its packages are found, else sets gatefold_missing to the reason. Pass GLOBAL to
# show it outside this directory.
function(gatefold_add_component component)
  set(gatefold_missing "" PARENT_SCOPE)
  if(TARGET gatefold::${component})
    return()
  endif()
  if(component STREQUAL "compiled")
    gatefold_add_compiled(${ARGN})
    return()
  endif()
  if(NOT component IN_LIST gatefold_components)
    list(JOIN gatefold_components ", " all)
    string(APPEND all ", compiled")
    set(gatefold_missing "there is no gatefold::${component}, only ${all}" PARENT_SCOPE)
    return()
  endif()
  set(all_includes "")
  set(all_libraries "")
  set(definitions "")
  set(all_missing "")
  foreach(name IN LISTS gatefold_needs_${component})
    gatefold_read_package(${name})
    gatefold_find_package(${name})
    if(missing)
      if(NOT package_OPTIONAL)
        list(APPEND all_missing "${missing}")
      endif()
      continue()
    endif()
    list(APPEND all_includes ${includes})
    list(APPEND all_libraries ${libraries})
    if(package_OPTIONAL)
      list(APPEND definitions ${package_OPTIONAL}=1)
    endif()
  endforeach()
  if(all_missing)
    list(JOIN all_missing ", " all_missing)
    set(gatefold_missing "gatefold::${component} needs ${all_missing}" PARENT_SCOPE)
    return()
  endif()
  add_library(gatefold::${component} INTERFACE IMPORTED ${ARGN})
  target_include_directories(gatefold::${component} INTERFACE ${all_includes})
  target_link_libraries(gatefold::${component} INTERFACE gatefold::gatefold ${all_libraries})
  target_compile_definitions(gatefold::${component} INTERFACE ${definitions})
endfunction()
