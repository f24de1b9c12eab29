# The program as a person and as another program use it.
if(STRATA_TORCH AND TARGET strata)
  find_program(STRATA_PYTHON3 python3)
  if(STRATA_PYTHON3)
    add_test(NAME train_command_test COMMAND ${STRATA_PYTHON3} ${CMAKE_CURRENT_LIST_DIR}/cli/train_test.py
             $<TARGET_FILE:strata> ${PROJECT_SOURCE_DIR})
    set_tests_properties(train_command_test PROPERTIES LABELS quick TIMEOUT 600)
  endif()
endif()
