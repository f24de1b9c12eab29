# Front door. `make` builds, `make test` tests, `make demo` trains; each installs what is missing first.

BUILD ?= build
CMAKE_ARGS ?=
JOBS ?= $(shell nproc)
CLANG ?= clang++

.PHONY: all build tools test full demo bootstrap asan tsan clang tidy format clean

all: build

bootstrap:
	@scripts/bootstrap

build: bootstrap
	@scripts/configure $(BUILD) $(CMAKE_ARGS)
	@cmake --build $(BUILD) -j $(JOBS)

test: build
	@ctest --test-dir $(BUILD) -L quick --output-on-failure -j $(JOBS)

full: build
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

demo: build
	@scripts/demo $(BUILD)

# What needs no LibTorch, in a folder of its own: $(call without_torch,FOLDER,ARGUMENTS). CMakePresets.json names the same.
define without_torch
	@scripts/bootstrap --no-torch
	@scripts/configure $(1) -DSTRATA_TORCH=OFF $(2) $(CMAKE_ARGS)
	@cmake --build $(1) -j $(JOBS)
endef

tools:
	$(call without_torch,build-tools)

asan:
	$(call without_torch,build-asan,-DSTRATA_BENCH=OFF -DSTRATA_SANITIZE=address$(comma)undefined)
	@ctest --test-dir build-asan -L quick --output-on-failure

tsan:
	$(call without_torch,build-tsan,-DSTRATA_BENCH=OFF -DSTRATA_SANITIZE=thread)
	@ctest --test-dir build-tsan -L quick --output-on-failure

CLANG_ARGS := -DSTRATA_BENCH=OFF -DCMAKE_CXX_COMPILER=$(CLANG)

clang:
	$(call without_torch,build-clang,$(CLANG_ARGS))
	@ctest --test-dir build-clang -L quick --output-on-failure

# clang-tidy needs the flags of a clang build, and none of its objects.
tidy:
	@scripts/bootstrap --no-torch
	@scripts/configure build-clang -DSTRATA_TORCH=OFF $(CLANG_ARGS) $(CMAKE_ARGS)
	@python3 -c 'import json; [print(e["file"]) for e in json.load(open("build-clang/compile_commands.json"))]' | \
	  grep -E '^$(CURDIR)/(src|kernels)/' | xargs -P $(JOBS) -n 1 clang-tidy -p build-clang --quiet

format:
	@git ls-files '*.hpp' '*.cpp' | xargs clang-format -i

clean:
	@rm -rf build build-tools build-asan build-tsan build-clang

comma := ,
