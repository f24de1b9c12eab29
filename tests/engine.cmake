foreach(_name placement_parity_test plain_loop_test)
  strata_test(NAME ${_name} SOURCES parity/${_name}.cpp LIBS strata_engine TIMEOUT 900)
  target_compile_definitions(${_name} PRIVATE STRATA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
endforeach()

add_test(NAME placement_parity_full COMMAND placement_parity_test --gtest_filter=*WholeMatrix)
set_tests_properties(placement_parity_full PROPERTIES LABELS full TIMEOUT 7200 ENVIRONMENT STRATA_FULL=1)

find_program(STRATA_PYTHON3 python3)
if(STRATA_PYTHON3)
  add_test(NAME run_schemas_test COMMAND ${STRATA_PYTHON3} ${CMAKE_CURRENT_LIST_DIR}/support/run_schemas.py
           $<TARGET_FILE:strata> ${PROJECT_SOURCE_DIR})
  set_tests_properties(run_schemas_test PROPERTIES LABELS quick TIMEOUT 120 SKIP_RETURN_CODE 77)
endif()

if(STRATA_BENCH)
  add_test(NAME step_bench_runs COMMAND bench_step --data=${PROJECT_SOURCE_DIR}/docs --benchmark_min_time=0.01
           --model=${PROJECT_SOURCE_DIR}/configs/models/gpt2-tiny.json --path=${CMAKE_CURRENT_BINARY_DIR})
  set_tests_properties(step_bench_runs PROPERTIES LABELS quick TIMEOUT 120 ENVIRONMENT OMP_WAIT_POLICY=passive
                       FAIL_REGULAR_EXPRESSION "ERROR OCCURRED")
endif()

add_test(NAME memory_test COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/cli/memory_test.py
         $<TARGET_FILE:strata> ${PROJECT_SOURCE_DIR})
set_tests_properties(memory_test PROPERTIES LABELS quick TIMEOUT 300)
