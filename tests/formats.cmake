strata_test(NAME formats_test SOURCES unit/digest_test.cpp unit/safetensors_test.cpp LIBS strata_formats)
target_compile_definitions(formats_test PRIVATE STRATA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")

# The first python3 that has the xxhash module recomputes digests.
foreach(_python ${PROJECT_SOURCE_DIR}/.venv/bin/python3 python3 /usr/bin/python3)
  execute_process(COMMAND ${_python} -c "import xxhash; xxhash.xxh3_128" RESULT_VARIABLE _without ERROR_QUIET)
  if(_without EQUAL 0)
    target_compile_definitions(formats_test PRIVATE STRATA_XXHASH_PYTHON="${_python}")
    break()
  endif()
endforeach()
