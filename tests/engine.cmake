foreach(_name placement_parity_test plain_loop_test)
  strata_test(NAME ${_name} SOURCES parity/${_name}.cpp LIBS strata_engine TIMEOUT 900)
  target_compile_definitions(${_name} PRIVATE STRATA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
endforeach()

add_test(NAME placement_parity_full COMMAND placement_parity_test --gtest_filter=*WholeMatrix)
set_tests_properties(placement_parity_full PROPERTIES LABELS full TIMEOUT 7200 ENVIRONMENT STRATA_FULL=1)
