# SPDX-License-Identifier: Apache-2.0
# Installation: headers, one export set per component, package version, Find module, pkg-config files.
include(CMakePackageConfigHelpers)

set(insula_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/insula")

install(DIRECTORY include/insula DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
foreach(component IN ITEMS insula cpu io cuda)
  set(target insula_${component})
  if(component STREQUAL "insula")
    set(target insula)
  endif()
  if(TARGET ${target})
    set_target_properties(${target} PROPERTIES EXPORT_NAME ${component})
    install(TARGETS ${target} EXPORT insula_${component}_targets)
    install(EXPORT insula_${component}_targets NAMESPACE insula:: DESTINATION "${insula_package_dir}"
      FILE insula-${component}-targets.cmake)
  endif()
endforeach()

configure_package_config_file(cmake/insula-config.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/insula-config.cmake"
  INSTALL_DESTINATION "${insula_package_dir}")
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/insula-config-version.cmake"
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/insula-config.cmake"
  "${CMAKE_CURRENT_BINARY_DIR}/insula-config-version.cmake" cmake/FindNIFTI2.cmake
  DESTINATION "${insula_package_dir}")

# The prefix of a .pc file follows the file, so that an installed tree may be moved.
file(RELATIVE_PATH insula_pc_prefix "/${CMAKE_INSTALL_DATADIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" insula_pc_prefix "${insula_pc_prefix}")
configure_file(cmake/insula.pc.in insula.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/insula.pc" DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig")
if(TARGET insula_io)
  configure_file(cmake/insula-io.pc.in insula-io.pc @ONLY)
  install(FILES "${CMAKE_CURRENT_BINARY_DIR}/insula-io.pc" DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig")
endif()
