# SPDX-License-Identifier: Apache-2.0
# How this checkout's own programs are compiled. None of it reaches those who use the library.

if(PROJECT_IS_TOP_LEVEL)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release)
  endif()
  find_program(INSULA_CCACHE ccache)
  if(INSULA_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${INSULA_CCACHE}")
  endif()
endif()

foreach(component IN ITEMS cpu io)
  if(NOT TARGET insula_${component})
    message(FATAL_ERROR "insula: tests, examples and benchmarks need insula::${component}, see the message above; "
      "or configure with -DINSULA_TESTS=OFF -DINSULA_EXAMPLES=OFF -DINSULA_BENCHMARKS=OFF")
  endif()
endforeach()

set(insula_warnings -Wall -Wextra -Wpedantic -Wconversion)
if(INSULA_WERROR)
  list(APPEND insula_warnings -Werror)
endif()

# Instruction set and sanitizers: must be the same in all objects of one program.
add_library(insula_machine INTERFACE)
if(INSULA_NATIVE)
  target_compile_options(insula_machine INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-march=native>)
endif()
if(INSULA_SANITIZE)
  target_compile_options(insula_machine INTERFACE -O1 -g1 -fno-omit-frame-pointer
    -fsanitize=${INSULA_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(insula_machine INTERFACE -fsanitize=${INSULA_SANITIZE})
endif()

# The CPU kernels, compiled once for all programs of this checkout.
file(GLOB insula_kernel_files CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/kernels/*.cpp")
add_library(insula_kernels STATIC ${insula_kernel_files})
set_target_properties(insula_kernels PROPERTIES CXX_EXTENSIONS OFF)
target_compile_definitions(insula_kernels PUBLIC INSULA_LINKED_KERNELS)
target_compile_options(insula_kernels PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${insula_warnings}>)
if(NOT INSULA_SANITIZE)
  target_compile_options(insula_kernels PRIVATE -O3)
endif()
target_link_libraries(insula_kernels PUBLIC insula::insula insula_machine)

# insula_program(NAME SOURCE...): an executable with everything a program of this checkout may use.
function(insula_program name)
  add_executable(${name} ${ARGN})
  set_target_properties(${name} PROPERTIES CXX_EXTENSIONS OFF)
  target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${insula_warnings}>)
  target_link_libraries(${name} PRIVATE insula_kernels insula::io insula_machine)
endfunction()
