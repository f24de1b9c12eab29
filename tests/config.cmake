strata_test(NAME config_test LIBS strata_config SOURCES
            unit/config_document_test.cpp unit/config_load_test.cpp unit/config_batch_test.cpp
            unit/config_rules_test.cpp unit/config_keys_test.cpp unit/config_mutation_test.cpp)

if(TARGET strata)
  # The ready files are what people copy: each must stay right.
  file(GLOB STRATA_CONFIGS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/configs/*.json)
  foreach(file ${STRATA_CONFIGS})
    get_filename_component(name ${file} NAME_WE)
    add_test(NAME config_check_${name} COMMAND strata config check ${file})
    set_tests_properties(config_check_${name} PROPERTIES LABELS quick TIMEOUT 60)
  endforeach()
  add_test(NAME config_docs_test COMMAND ${CMAKE_COMMAND} -DSTRATA=$<TARGET_FILE:strata>
           -DPAGE=${PROJECT_SOURCE_DIR}/docs/config.md -P ${CMAKE_CURRENT_LIST_DIR}/support/config_docs.cmake)
  add_test(NAME config_command_test COMMAND ${CMAKE_COMMAND} -DSTRATA=$<TARGET_FILE:strata>
           -DFOLDER=${CMAKE_BINARY_DIR}/tests -P ${CMAKE_CURRENT_LIST_DIR}/support/config_command.cmake)
  set_tests_properties(config_docs_test config_command_test PROPERTIES LABELS quick TIMEOUT 60)
  find_program(STRATA_PYTHON3 python3)
  if(STRATA_PYTHON3)
    add_test(NAME config_schema_test COMMAND ${STRATA_PYTHON3} ${CMAKE_CURRENT_LIST_DIR}/support/config_schema.py
             $<TARGET_FILE:strata> ${PROJECT_SOURCE_DIR})
    set_tests_properties(config_schema_test PROPERTIES LABELS quick TIMEOUT 60 SKIP_RETURN_CODE 77)
  endif()
endif()

option(STRATA_FUZZ "Build the fuzzers (clang only)" OFF)
if(STRATA_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "STRATA_FUZZ needs clang: configure with CXX=clang++")
  endif()
  add_executable(config_fuzz fuzz/config_fuzz.cpp)
  target_compile_options(config_fuzz PRIVATE -fsanitize=fuzzer)
  target_link_options(config_fuzz PRIVATE -fsanitize=fuzzer)
  target_link_libraries(config_fuzz PRIVATE strata_config)
endif()
