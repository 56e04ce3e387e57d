# The two commands of the README: `make quickstart` and `make test`. Both install what is missing first.
PRESET ?= release
PREFIX ?= /usr/local

.PHONY: quickstart test build setup install asan no-pch format lint clean

quickstart: build
	examples/quickstart/run.sh build/$(PRESET)/cli/rlhf

# Unit tests run in seconds; the slower labels (parity, train, slow) run here too. One of them opens a page in a browser.
test: SETUP = browser
test: build
	ctest --preset $(PRESET) -j $(shell nproc)

build: setup
	@if [ ! -f build/$(PRESET)/build.ninja ]; then cmake --preset $(PRESET); fi
	cmake --build --preset $(PRESET)

setup:
	@tools/setup.sh $(SETUP)

install: build
	cmake --install build/$(PRESET) --prefix $(PREFIX)

asan:
	$(MAKE) test PRESET=asan SETUP=

no-pch:
	$(MAKE) test PRESET=no-pch

format:
	clang-format -i $$(git ls-files '*.h' '*.cpp')

lint:
	clang-format --dry-run -Werror $$(git ls-files '*.h' '*.cpp')
	clang-tidy -p build/$(PRESET) --quiet $$(git ls-files 'rlhf/*.cpp' 'cli/*.cpp')

clean:
	rm -rf build
