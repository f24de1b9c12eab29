# Front door. `make` builds, `make test` tests, `make demo` trains; each installs what is missing first.

BUILD ?= build
CMAKE_ARGS ?=
JOBS ?= $(shell nproc)

.PHONY: all build tools test full demo bootstrap bench clean format tidy asan tsan

all: build

bootstrap:
	@scripts/bootstrap

build: bootstrap
	@scripts/configure $(BUILD) $(CMAKE_ARGS)
	@cmake --build $(BUILD) -j $(JOBS)

tools:
	@scripts/bootstrap --no-torch
	@scripts/configure build-tools -DSTRATA_TORCH=OFF $(CMAKE_ARGS)
	@cmake --build build-tools -j $(JOBS)

test: build
	@ctest --test-dir $(BUILD) -L quick --output-on-failure -j $(JOBS)

full: build
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

demo: build
	@scripts/demo $(BUILD)

asan:
	@scripts/bootstrap --no-torch
	@scripts/configure build-asan -DSTRATA_TORCH=OFF -DSTRATA_BENCH=OFF -DSTRATA_SANITIZE=address,undefined
	@cmake --build build-asan -j $(JOBS)
	@ctest --test-dir build-asan -L quick --output-on-failure

tsan:
	@scripts/bootstrap --no-torch
	@scripts/configure build-tsan -DSTRATA_TORCH=OFF -DSTRATA_BENCH=OFF -DSTRATA_SANITIZE=thread
	@cmake --build build-tsan -j $(JOBS)
	@ctest --test-dir build-tsan -L quick --output-on-failure

format:
	@git ls-files '*.hpp' '*.cpp' | xargs clang-format -i

tidy: build
	@git ls-files 'src/*.cpp' 'kernels/*.cpp' | xargs -P $(JOBS) -n 1 clang-tidy -p $(BUILD) --quiet

clean:
	@rm -rf build build-tools build-asan build-tsan
