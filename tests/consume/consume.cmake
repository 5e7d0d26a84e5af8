# SPDX-License-Identifier: Apache-2.0
# One step of the consumer tests, from an empty folder each time: install, or build and run a small project.

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT code EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}\nended with ${code}:\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

if(STEP STREQUAL "install")
  file(REMOVE_RECURSE "${PREFIX}")
  run("${CMAKE_COMMAND}" --install "${INSULA_BUILD}" --prefix "${PREFIX}")
  return()
endif()

file(REMOVE_RECURSE "${WORK}")
file(MAKE_DIRECTORY "${WORK}")
set(sources "${CMAKE_CURRENT_LIST_DIR}/main.cpp" "${CMAKE_CURRENT_LIST_DIR}/second.cpp"
  "${CMAKE_CURRENT_LIST_DIR}/files.cpp")

if(STEP STREQUAL "pkg_config")
  find_program(PKG_CONFIG NAMES pkg-config pkgconf REQUIRED)
  set(ENV{PKG_CONFIG_PATH} "${PREFIX}/share/pkgconfig")
  run("${PKG_CONFIG}" --cflags --libs insula insula-io)
  string(STRIP "${output}" flags)
  separate_arguments(flags UNIX_COMMAND "${flags}")
  run("${COMPILER}" -std=c++20 ${sources} -o "${WORK}/consumer" ${flags})
else()
  run("${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_LIST_DIR}/${STEP}" -B "${WORK}" -G "${GENERATOR}"
    "-DCMAKE_CXX_COMPILER=${COMPILER}" "-DCMAKE_PREFIX_PATH=${PREFIX}" "-DINSULA_SOURCE=${INSULA_SOURCE}"
    "-DFETCHCONTENT_SOURCE_DIR_INSULA=${INSULA_SOURCE}" -DFETCHCONTENT_FULLY_DISCONNECTED=ON)
  run("${CMAKE_COMMAND}" --build "${WORK}")
endif()
run("${WORK}/consumer")
message(STATUS "${output}")
