strata_test(NAME adam_bits_test SOURCES unit/adam_bits_test.cpp unit/adam_convert_test.cpp unit/norm_test.cpp
            LIBS strata_kernels strata_options)
strata_test(NAME adam_optimizer_test LIBS strata_optim SOURCES
            unit/adam_reference_test.cpp unit/adam_optimizer_test.cpp unit/adam_cores_test.cpp
            unit/adam_lr_schedule_test.cpp)
if(STRATA_SANITIZE MATCHES "thread")
  set_tests_properties(adam_optimizer_test PROPERTIES ENVIRONMENT
    TSAN_OPTIONS=suppressions=${CMAKE_CURRENT_LIST_DIR}/support/tsan.supp)
endif()

# A weak (inline, template) symbol in an object with extra instructions could be linked into the whole program.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND CMAKE_NM AND NOT STRATA_SANITIZE)
  add_test(NAME kernels_symbols_test COMMAND ${CMAKE_COMMAND} -DNM=${CMAKE_NM}
           "-DOBJECTS=$<TARGET_OBJECTS:strata_kernels>" -P ${CMAKE_CURRENT_LIST_DIR}/support/no_weak_symbols.cmake)
  set_tests_properties(kernels_symbols_test PROPERTIES LABELS quick TIMEOUT 60)
endif()

# A tiny run, so that the benchmark can't rot.
if(TARGET bench_adam)
  add_test(NAME bench_adam_smoke COMMAND bench_adam --params=98304 --benchmark_min_time=0.001)
  set_tests_properties(bench_adam_smoke PROPERTIES LABELS quick TIMEOUT 60)
endif()
