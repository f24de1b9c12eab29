# The simulated disk, for tests of any module.
add_library(strata_sim_io STATIC support/sim_io.cpp)
target_include_directories(strata_sim_io PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(strata_sim_io PUBLIC strata_io)

strata_test(NAME io_engine_test SOURCES conformance/io_engine_test.cpp LIBS strata_io strata_sim_io)
