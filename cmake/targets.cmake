# SPDX-License-Identifier: Apache-2.0
# The four library targets. Nothing is compiled, nothing is downloaded, no flag beyond C++20 is imposed.

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(Eigen3 3.4 REQUIRED NO_MODULE)
find_package(NIFTI2 QUIET)
find_package(nlohmann_json 3.11 QUIET)
find_package(tomlplusplus 3 QUIET)

add_library(insula INTERFACE)
add_library(insula::insula ALIAS insula)
target_compile_features(insula INTERFACE cxx_std_20)
target_include_directories(insula INTERFACE
  $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(insula INTERFACE Threads::Threads Eigen3::Eigen)

add_library(insula_cpu INTERFACE)
add_library(insula::cpu ALIAS insula_cpu)
target_link_libraries(insula_cpu INTERFACE insula)

if(NIFTI2_FOUND AND nlohmann_json_FOUND)
  add_library(insula_io INTERFACE)
  add_library(insula::io ALIAS insula_io)
  target_link_libraries(insula_io INTERFACE insula NIFTI2::NIFTI2 ZLIB::ZLIB nlohmann_json::nlohmann_json
    $<TARGET_NAME_IF_EXISTS:tomlplusplus::tomlplusplus>)
else()
  message(STATUS "insula: no insula::io, it needs nifti2_io.h with libnifti2 and libznz (libnifti2-dev), zlib "
    "(zlib1g-dev) and nlohmann_json (nlohmann-json3-dev)")
endif()

if(INSULA_CUDA)
  find_package(CUDAToolkit QUIET)
  if(NOT CUDAToolkit_FOUND)
    message(FATAL_ERROR "insula: INSULA_CUDA is ON, but no CUDA toolkit was found: put its nvcc on PATH, set "
      "CUDAToolkit_ROOT, or configure with -DINSULA_CUDA=OFF")
  endif()
  add_library(insula_cuda INTERFACE)
  add_library(insula::cuda ALIAS insula_cuda)
  target_link_libraries(insula_cuda INTERFACE insula CUDA::cudart CUDA::cublas)
endif()
