include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/gatefold)
install(TARGETS gatefold EXPORT gatefoldTargets FILE_SET HEADERS)
install(EXPORT gatefoldTargets NAMESPACE gatefold:: DESTINATION ${package_dir})

configure_package_config_file(cmake/gatefoldConfig.cmake.in gatefoldConfig.cmake INSTALL_DESTINATION ${package_dir})
# While the version is 0.x, a minor version may break its users; headers fit any word size.
write_basic_package_version_file(gatefoldConfigVersion.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/gatefoldConfig.cmake ${PROJECT_BINARY_DIR}/gatefoldConfigVersion.cmake
              cmake/dependencies.cmake DESTINATION ${package_dir})

# From its own place to the headers, so that the installed tree may be moved.
set(pc_dir ${CMAKE_INSTALL_DATADIR}/pkgconfig)
if(IS_ABSOLUTE ${pc_dir} OR IS_ABSOLUTE ${CMAKE_INSTALL_INCLUDEDIR})
  set(pc_includedir ${CMAKE_INSTALL_FULL_INCLUDEDIR})
else()
  file(RELATIVE_PATH pc_includedir /${pc_dir} /${CMAKE_INSTALL_INCLUDEDIR})
  set(pc_includedir \${pcfiledir}/${pc_includedir})
endif()
configure_file(cmake/gatefold.pc.in gatefold.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/gatefold.pc DESTINATION ${pc_dir})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
