strata_test(NAME segment_table_test SOURCES unit/segment_table_test.cpp LIBS strata_zero_state)
strata_test(NAME odd_graphs_test SOURCES parity/odd_graphs_test.cpp LIBS strata_engine)
strata_test(NAME backend_collectives_test SOURCES parity/backend_collectives_test.cpp LIBS strata_zero)
strata_test(NAME fake_ranks_test SOURCES parity/fake_ranks_test.cpp LIBS strata_zero)
