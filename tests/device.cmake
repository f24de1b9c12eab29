strata_test(NAME host_device_test SOURCES conformance/host_device_test.cpp LIBS strata_device)
