# The simulated disk, for tests of any module.
add_library(strata_sim_io STATIC support/sim_io.cpp)
target_include_directories(strata_sim_io PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(strata_sim_io PUBLIC strata_io)

strata_test(NAME io_unit_test
            SOURCES unit/io_transfer_progress_test.cpp unit/io_block_scheduler_test.cpp unit/io_file_test.cpp
                    unit/io_open_engine_test.cpp property/io_block_scheduler_property_test.cpp
            LIBS strata_io)
strata_test(NAME io_engine_test SOURCES conformance/io_engine_test.cpp LIBS strata_io strata_sim_io)
strata_test(NAME io_engine_fault_test SOURCES fault/io_engine_fault_test.cpp LIBS strata_io)
strata_test(NAME io_sim_test SOURCES unit/sim_io_test.cpp LIBS strata_sim_io)
if(TARGET bench_io)
  add_test(NAME io_bench_runs COMMAND bench_io --path=${CMAKE_BINARY_DIR} --file-size=16MiB --benchmark_min_time=0.01
                                      --benchmark_filter=depth:4)
  set_tests_properties(io_bench_runs PROPERTIES LABELS quick TIMEOUT 60 FAIL_REGULAR_EXPRESSION "ERROR OCCURRED")
endif()
