# SPDX-License-Identifier: Apache-2.0
# Finds nifti_clib's NIfTI-1/2 reader: target NIFTI2::NIFTI2, variables NIFTI2_FOUND and NIFTI2_INCLUDE_DIR.
#
# Why not find_package(NIFTI): Debian 12's NIFTIConfig.cmake names files that its packages do not install.
# libniftiio is never used: it exports the same symbols as libnifti2.

find_package(ZLIB QUIET)
find_path(NIFTI2_INCLUDE_DIR nifti2_io.h PATH_SUFFIXES nifti)
find_library(NIFTI2_LIBRARY nifti2)
find_library(NIFTI2_ZNZ_LIBRARY znz)
mark_as_advanced(NIFTI2_INCLUDE_DIR NIFTI2_LIBRARY NIFTI2_ZNZ_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(NIFTI2
  REQUIRED_VARS NIFTI2_LIBRARY NIFTI2_ZNZ_LIBRARY NIFTI2_INCLUDE_DIR ZLIB_FOUND)

if(NIFTI2_FOUND AND NOT TARGET NIFTI2::NIFTI2)
  find_library(NIFTI2_MATH_LIBRARY m)
  mark_as_advanced(NIFTI2_MATH_LIBRARY)
  add_library(NIFTI2::NIFTI2 UNKNOWN IMPORTED)
  set_target_properties(NIFTI2::NIFTI2 PROPERTIES
    IMPORTED_LOCATION "${NIFTI2_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${NIFTI2_INCLUDE_DIR}")
  target_link_libraries(NIFTI2::NIFTI2 INTERFACE "${NIFTI2_ZNZ_LIBRARY}" ZLIB::ZLIB)
  if(NIFTI2_MATH_LIBRARY)
    target_link_libraries(NIFTI2::NIFTI2 INTERFACE "${NIFTI2_MATH_LIBRARY}")
  endif()
endif()
