find_package(Python3 REQUIRED COMPONENTS Interpreter)

add_test(NAME include_direction
         COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/tidy/include_direction.py ${PROJECT_SOURCE_DIR})
add_test(NAME include_direction_self_test
         COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/tidy/include_direction.py . --self-test)
add_test(NAME repository_rules
         COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/tidy/repository_rules.py ${PROJECT_SOURCE_DIR})
set_tests_properties(include_direction include_direction_self_test repository_rules PROPERTIES LABELS quick)

# Every header compiles alone: one generated source per header, built with the tests.
file(GLOB_RECURSE _headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}
     ${PROJECT_SOURCE_DIR}/include/*.hpp ${PROJECT_SOURCE_DIR}/src/*.hpp ${PROJECT_SOURCE_DIR}/kernels/*.hpp)
# Headers with vector types belong to one instruction set; the sources that use them check them.
list(FILTER _headers EXCLUDE REGEX "^kernels/cpu/")
set(_alone)
set(_alone_torch)
foreach(_header IN LISTS _headers)
  string(REGEX REPLACE "^(src|include)/" "" _include ${_header})
  string(MAKE_C_IDENTIFIER ${_header} _id)
  set(_source ${CMAKE_CURRENT_BINARY_DIR}/alone/${_id}.cpp)
  file(CONFIGURE OUTPUT ${_source} CONTENT "#include \"${_include}\"\n#include \"${_include}\"\n")
  file(STRINGS ${PROJECT_SOURCE_DIR}/${_header} _torch REGEX "(ATen|torch|c10)/")
  if(_torch OR _header MATCHES "^src/((zero|model|engine)/|cli/train)")
    list(APPEND _alone_torch ${_source})
  else()
    list(APPEND _alone ${_source})
  endif()
endforeach()
add_library(headers_alone OBJECT ${_alone})
target_link_libraries(headers_alone PRIVATE strata_core strata_config strata_formats strata_engine_state CLI11::CLI11)
target_compile_options(headers_alone PRIVATE -O0)
if(STRATA_TORCH)
  add_library(headers_alone_torch OBJECT ${_alone_torch})
  target_link_libraries(headers_alone_torch PRIVATE strata_engine)
  target_compile_options(headers_alone_torch PRIVATE -O0)
endif()
