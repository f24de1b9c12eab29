# Torch::libtorch, from the wheel that python3 (or .venv) has. find_package(Torch) is not used: that of a CUDA wheel
# stops where there is no nvcc, and it enables CUDA languages behind the project's back.

set(STRATA_TORCH_MINIMUM 2.7)
set(STRATA_PYTHON "" CACHE FILEPATH "Python whose torch is used; empty: .venv, then python3")
if(STRATA_PYTHON)
  set(_python ${STRATA_PYTHON})
elseif(EXISTS ${PROJECT_SOURCE_DIR}/.venv/bin/python3)
  set(_python ${PROJECT_SOURCE_DIR}/.venv/bin/python3)
else()
  find_program(_python3 python3 REQUIRED)
  set(_python ${_python3})
endif()

# Located without importing torch, which takes seconds.
execute_process(
  COMMAND ${_python} -c
          "import importlib.util as u, os; s = u.find_spec('torch'); p = os.path.dirname(s.origin); g = {}; exec(open(p + '/version.py').read(), g); print(p + ';' + g['__version__'])"
  OUTPUT_VARIABLE _found OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE _failed ERROR_QUIET)
if(_failed)
  message(FATAL_ERROR "no torch in ${_python}: run scripts/bootstrap, set -DSTRATA_PYTHON=, or build without it "
                      "(-DSTRATA_TORCH=OFF)")
endif()
list(GET _found 0 STRATA_TORCH_DIR)
list(GET _found 1 STRATA_TORCH_VERSION)
if(STRATA_TORCH_VERSION VERSION_LESS STRATA_TORCH_MINIMUM)
  message(FATAL_ERROR "torch ${STRATA_TORCH_VERSION} in ${_python} is older than ${STRATA_TORCH_MINIMUM}: "
                      "run scripts/bootstrap, or set -DSTRATA_PYTHON= to another")
endif()
message(STATUS "LibTorch ${STRATA_TORCH_VERSION}")

add_library(Torch::libtorch INTERFACE IMPORTED)
target_include_directories(Torch::libtorch SYSTEM INTERFACE
  ${STRATA_TORCH_DIR}/include ${STRATA_TORCH_DIR}/include/torch/csrc/api/include)
# libtorch.so is an empty shell that pulls in libtorch_cuda; the CPU library is all that a build without CUDA needs.
target_link_libraries(Torch::libtorch INTERFACE ${STRATA_TORCH_DIR}/lib/libtorch_cpu.so
                                                ${STRATA_TORCH_DIR}/lib/libc10.so)
# The observer of unbound storages relies on the release wheel's layout of RecordFunction.
target_compile_definitions(Torch::libtorch INTERFACE NDEBUG)
# The wheel's include folder brings fmt headers of its own, newer than the system's library: header-only, so that nothing
# looks for their symbols there. Their namespace is versioned; both can live in one program.
if(EXISTS ${STRATA_TORCH_DIR}/include/fmt)
  target_compile_definitions(Torch::libtorch INTERFACE FMT_HEADER_ONLY=1)
endif()
target_link_options(Torch::libtorch INTERFACE -Wl,-rpath,${STRATA_TORCH_DIR}/lib
                    -Wl,-rpath-link,${STRATA_TORCH_DIR}/lib -Wl,--allow-shlib-undefined)
