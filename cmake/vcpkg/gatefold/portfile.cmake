# An overlay port of the checkout that it lies in: vcpkg install gatefold --overlay-ports=<checkout>/cmake/vcpkg
cmake_path(SET SOURCE_PATH NORMALIZE "${CURRENT_PORT_DIR}/../../..")
set(VCPKG_BUILD_TYPE release)  # headers alone
set(VCPKG_POLICY_SKIP_PKGCONFIG_CHECK enabled)  # gatefold-openmp.pc has -fopenmp to link, but no library of ours

vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS -DGATEFOLD_BUILD_TESTS=OFF -DGATEFOLD_BUILD_BENCH=OFF -DGATEFOLD_BUILD_EXAMPLES=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH share/cmake/gatefold)
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/lib" "${CURRENT_PACKAGES_DIR}/share/doc")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
