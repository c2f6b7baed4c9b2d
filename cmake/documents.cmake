# What is made of the headers: `amalgamate`, the same as single files, and `reference`, to be browsed.
add_custom_target(amalgamate
                  COMMAND ${CMAKE_COMMAND} -D OUT=${PROJECT_BINARY_DIR}/amalgamated
                          -P ${PROJECT_SOURCE_DIR}/cmake/amalgamate.cmake
                  COMMENT "Single headers in ${PROJECT_BINARY_DIR}/amalgamated" VERBATIM)

find_program(GATEFOLD_DOXYGEN doxygen)
if(GATEFOLD_DOXYGEN)
  configure_file(cmake/Doxyfile.in Doxyfile @ONLY)
  add_custom_target(reference
                    COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/reference
                    COMMAND ${GATEFOLD_DOXYGEN} ${PROJECT_BINARY_DIR}/Doxyfile
                    COMMENT "${PROJECT_BINARY_DIR}/reference/html/index.html; warnings in reference/warnings.txt" VERBATIM)
else()
  add_custom_target(reference COMMAND ${CMAKE_COMMAND} -E echo "reference needs doxygen (Debian: doxygen)"
                    COMMAND ${CMAKE_COMMAND} -E false VERBATIM)
endif()
