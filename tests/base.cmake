strata_test(NAME size_text_test SOURCES unit/size_text_test.cpp LIBS strata_base)
