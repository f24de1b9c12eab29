# How every target of the project is made: warnings, include root, sanitizers.

add_library(strata_options INTERFACE)
target_include_directories(strata_options INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
target_compile_options(strata_options INTERFACE -Wall -Wextra -Wconversion -Wshadow -ffp-contract=off)
if(STRATA_WERROR)
  target_compile_options(strata_options INTERFACE -Werror)
endif()
if(STRATA_SANITIZE)
  # g++ warns of values in a tl::expected that its own instrumentation made it lose sight of.
  target_compile_options(strata_options INTERFACE -fsanitize=${STRATA_SANITIZE} -fno-omit-frame-pointer
                         $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_link_options(strata_options INTERFACE -fsanitize=${STRATA_SANITIZE})
endif()

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # base_dir and no hash_dir: a clone at another path finds the objects of the first.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE_PROGRAM})
endif()

# strata_module(NAME base SOURCES a.cpp b.cpp DEPENDS fmt::fmt)
# One static library per folder of src; its headers are found as "folder/name.hpp".
function(strata_module)
  cmake_parse_arguments(ARG "" "NAME" "SOURCES;DEPENDS" ${ARGN})
  add_library(strata_${ARG_NAME} STATIC ${ARG_SOURCES})
  target_link_libraries(strata_${ARG_NAME} PUBLIC strata_options ${ARG_DEPENDS})
  set_target_properties(strata_${ARG_NAME} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()

# strata_test(NAME size_text_test SOURCES unit/size_text_test.cpp LIBS strata_base [LABELS quick] [TIMEOUT 120])
# One GoogleTest program, registered as one ctest test.
function(strata_test)
  cmake_parse_arguments(ARG "" "NAME;TIMEOUT" "SOURCES;LIBS;LABELS;ARGS" ${ARGN})
  add_executable(${ARG_NAME} ${ARG_SOURCES})
  target_include_directories(${ARG_NAME} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_LIBS} GTest::gtest GTest::gmock GTest::gtest_main)
  set_target_properties(${ARG_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${ARG_NAME} COMMAND ${ARG_NAME} ${ARG_ARGS})
  if(NOT ARG_LABELS)
    set(ARG_LABELS quick)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  set_tests_properties(${ARG_NAME} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
                       # Tests run side by side: OpenMP threads that spin would take the cores from each other.
                       ENVIRONMENT OMP_WAIT_POLICY=passive)
endfunction()
