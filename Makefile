# aioxide's commands. Each step says what it does; `make demo` and `make test` work from nothing but
# a Rust toolchain, a C compiler, make and a Python of 3.10 or newer.

# The interpreter to build for. The newest that is there, if the default one is too old.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	command -v $$python >/dev/null && $$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	&& echo $$python && break; done)

TARGET := $(or $(CARGO_TARGET_DIR),target)
VENV := $(TARGET)/venv
IN_VENV := $(VENV)/bin/python
WHEELS := $(TARGET)/wheel
PROFILED := $(TARGET)/profiled

# Everything that the wheel is made of: a change rebuilds it.
SOURCES := $(shell find crates python -name '*.rs' -o -name '*.py' -o -name '*.pyi' -o -name 'Cargo.toml') \
	Cargo.toml Cargo.lock pyproject.toml

.PHONY: demo test bench wheel profiled-wheel lint test-rust test-python conformance help always

help:
	@echo "make demo    build both front doors, send bytes through them, compare with asyncio's loop"
	@echo "make test    the Rust suite, the Python suite, lints, stubs"
	@echo "make conformance  CPython's own asyncio tests on aioxide, on every Python that is here (or PYTHON=...)"
	@echo "make bench   all contenders, interleaved; not quite 25 minutes (QUICK=1: three)"
	@echo "make profiled-wheel  the wheel, compiled with counts of what a loop does often; needs the llvm-tools of rustup"
	@echo "PYTHON=...   the interpreter to build for (now: $(PYTHON))"

# ---- the environment and the wheel ----

# Which interpreter the environment is for. Written anew when PYTHON=... names another one, so that the environment and
# the wheels are made again; without PYTHON=... what is there stays.
$(TARGET)/interpreter: $(if $(filter-out file,$(origin PYTHON)),always)
	@test -n "$(PYTHON)" || { echo "aioxide needs a Python of 3.10 or newer: make PYTHON=/path/to/python3"; exit 1; }
	@mkdir -p $(TARGET)
	@$(PYTHON) -c 'import os, sys; print(os.path.realpath(sys.executable), sys.version)' > $@.now \
		|| { echo "PYTHON=$(PYTHON) cannot be run"; exit 1; }
	@cmp -s $@.now $@ || cp $@.now $@
	@rm -f $@.now

$(VENV)/made: pyproject.toml $(TARGET)/interpreter
	@echo "==> making a virtual environment for $$($(PYTHON) --version) in $(VENV)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(IN_VENV) -m pip install --quiet --upgrade pip
	@$(IN_VENV) -m pip install --quiet --group dev
	@touch $@

$(VENV)/installed: $(VENV)/made $(SOURCES)
	@echo "==> building the wheel (release; the first time takes a minute or two)"
	@rm -rf $(WHEELS)
	@$(VENV)/bin/maturin build --quiet --release --locked --interpreter $(abspath $(IN_VENV)) --out $(WHEELS)
	@$(IN_VENV) -m pip install --quiet --force-reinstall --no-deps $(WHEELS)/*.whl
	@touch $@

wheel: $(VENV)/installed
	@ls $(WHEELS)/*.whl

# The wheel as it is to be given to others: compiled with counts of what a loop does often.
$(PROFILED)/made: $(VENV)/made $(SOURCES) $(wildcard scripts/*.py)
	@rm -rf $(PROFILED)/wheel
	@$(IN_VENV) scripts/profiled_wheel.py --python $(IN_VENV) --maturin $(VENV)/bin/maturin \
		--work $(PROFILED) --out $(PROFILED)/wheel
	@touch $@

profiled-wheel: $(PROFILED)/made
	@ls $(PROFILED)/wheel/*.whl

# ---- the demonstration ----

demo: $(VENV)/installed
	@echo "==> building the Rust examples (the first time takes about a minute)"
	@cargo build --quiet --release --locked --package aioxide --example echo_server --example echo_client
	@$(IN_VENV) scripts/demo.py --examples $(TARGET)/release/examples
	@echo "==> the same Python echo server on asyncio's loop and on aioxide: ten seconds, after building the load"
	@$(IN_VENV) bench/run.py side-by-side --seconds 10 --python $(IN_VENV)

# ---- the tests ----

test: lint test-rust test-python
	@echo "==> all of it passed"

lint: $(VENV)/installed
	@echo "==> lints: rustfmt, clippy, rustdoc (the first time takes about a minute)"
	@cargo fmt --all --check
	@cargo clippy --quiet --locked --workspace --all-targets --all-features -- --deny warnings
	@RUSTDOCFLAGS="--deny warnings" cargo doc --quiet --locked --workspace --no-deps
	@echo "==> lints: ruff, mypy, stubs against the module"
	@$(IN_VENV) -m ruff check --quiet .
	@$(IN_VENV) -m ruff format --quiet --check .
	@$(IN_VENV) -m mypy
	@cd $(VENV) && bin/python -m mypy.stubtest aioxide --mypy-config-file $(CURDIR)/pyproject.toml

test-rust:
	@echo "==> the engine's suite, without Python (compiling it takes about a minute)"
	@cargo test --quiet --locked --package aioxide
	@cargo test --quiet --locked --package aioxide-bench

test-python: $(VENV)/installed
	@echo "==> the Python suite, on $$($(IN_VENV) --version): asyncio's loop is the oracle"
	@$(IN_VENV) -m pytest --quiet tests bench/tests

# CPython's own asyncio tests. On every Python of the path, unless PYTHON names one; the wheels are
# built for them, in folders of their own. ARGS are further options: `ARGS=--help` says which.
conformance:
	@$(PYTHON) -m conformance.run $(if $(filter-out file,$(origin PYTHON)),--python $(PYTHON)) $(ARGS)

# ---- the benchmark ----

# Of the wheel that `make wheel` makes, or with GUIDED=1 of the one that `make profiled-wheel` makes.
MEASURED := $(if $(GUIDED),$(PROFILED)/wheel,$(WHEELS))

bench: $(if $(GUIDED),$(PROFILED)/made,$(VENV)/installed)
	@$(IN_VENV) bench/run.py --python $(IN_VENV) --wheel $(MEASURED)/*.whl $(if $(QUICK),--quick)
