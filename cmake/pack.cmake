# What `cpack` makes of a configured build: a Debian package and an archive. Both hold what an install writes.
set(CPACK_GENERATOR DEB TGZ)
set(CPACK_PACKAGE_NAME gatefold)
set(CPACK_PACKAGE_VENDOR gatefold)
set(CPACK_PACKAGE_CONTACT "The authors of gatefold")
set(CPACK_PACKAGE_DESCRIPTION
    "Routers, experts, capacity and token dropping, auxiliary losses and the transformer around them, forward and
backward, as C++20 headers for CPUs. Results are bitwise equal for any number of threads.")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGE_FILE_NAME gatefold-${PROJECT_VERSION})
# The folder that it makes to pack is as the umask says.
file(CONFIGURE OUTPUT pack_permissions.cmake @ONLY CONTENT [[
file(CHMOD_RECURSE "${CPACK_TEMPORARY_INSTALL_DIRECTORY}"
     DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
]])
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_BINARY_DIR}/pack_permissions.cmake)

set(CPACK_DEBIAN_PACKAGE_NAME libgatefold-dev)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libeigen3-dev (>= 3.4), libxsimd-dev (>= 8.1)")
list(JOIN debian_recommends ", " CPACK_DEBIAN_PACKAGE_RECOMMENDS)
list(JOIN debian_suggests ", " CPACK_DEBIAN_PACKAGE_SUGGESTS)
include(CPack)
