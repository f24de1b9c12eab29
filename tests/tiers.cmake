strata_test(NAME budget_test SOURCES unit/budget_test.cpp LIBS strata_tiers)
strata_test(NAME residency_test SOURCES unit/residency_test.cpp LIBS strata_tiers)
strata_test(NAME mover_test SOURCES unit/mover_test.cpp LIBS strata_tiers)
include(tiers_store.cmake OPTIONAL)
