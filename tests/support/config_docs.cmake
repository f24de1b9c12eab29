# docs/config.md is what the program prints.
execute_process(COMMAND ${STRATA} config keys --markdown OUTPUT_VARIABLE printed RESULT_VARIABLE code)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "strata config keys --markdown: exit ${code}")
endif()
file(READ ${PAGE} page)
if(NOT printed STREQUAL page)
  message(FATAL_ERROR "${PAGE} differs from the key table: run `strata config keys --markdown > docs/config.md`")
endif()
