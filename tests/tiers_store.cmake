strata_test(NAME store_test SOURCES unit/store_test.cpp unit/store_parts_test.cpp LIBS strata_tiers)
strata_test(NAME store_failure_test SOURCES fault/store_failure_test.cpp fault/store_kill_test.cpp LIBS strata_tiers)
strata_test(NAME store_crash_test SOURCES property/store_crash_test.cpp LIBS strata_tiers)
