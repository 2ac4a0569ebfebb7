# Each command sets up what it needs by itself; the work is done in scripts/.
.DEFAULT_GOAL := help
.PHONY: help demo demo-fleet run test accountant model soak crash fuzz sanitize lint generate wasm native bench clean

help: ## this list
	@echo "Tollgate: Envoy filters that make a listener the front door of a model-serving platform."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  ENVOY_BIN=/path         use another Envoy      ENVOY_RUNTIME=docker   use the official image"
	@echo "  FORM=gateway, native    make run: with the filters as one module, or from the native library"
	@echo "  WASM_TOOLCHAIN=debian   (or rustup) choose the compiler for wasm"

demo: ## a scripted tour: model servers, Envoy, fresh keys, some fifty steps
	@scripts/stack.sh demo $(ARGS)

demo-fleet: ## one limit for two Envoys, of which one is killed: what passes where, and that the sum never is too much
	@scripts/stack.sh demo-fleet $(ARGS)

run: ## the stack in the foreground: a key, a curl line to paste, and a control plane to make more keys
	@scripts/stack.sh run $(ARGS)

test: ## build the modules and run every test, on a real Envoy too
	@scripts/test.sh $(ARGS)

accountant: ## 10,000 random requests, and the sums of a program that is not ours: no limit is passed
	@scripts/accountant.sh

model: ## every order of messages, clocks and crashes that limits and budgets across a fleet may meet: some five minutes
	@scripts/model.sh

soak: ## an hour of requests that end in every way: memory stays flat (ARGS=600: so many seconds)
	@scripts/soak.sh $(ARGS)

crash: ## Envoy killed 500 times under load: each request has one usage record (ARGS=50: so often)
	@scripts/crash.sh $(ARGS)

fuzz: ## the readers of bodies under libFuzzer, 20 seconds each (ARGS=600: longer; ARGS=fixed: the same each time)
	@scripts/fuzz.sh $(ARGS)

sanitize: ## the native library under AddressSanitizer
	@scripts/sanitize.sh

lint: ## formatting, circles between modules, clippy on every crate and for wasm, documentation, shell scripts
	@scripts/lint.sh

generate: ## docs/openapi.json and docs/schemas, from the types
	@scripts/generate.sh

wasm: ## the modules, in dist/ with SHA256SUMS
	@scripts/wasm.sh

native: ## the native library, dist/libtollgate.so (ARGS=aarch64: for another machine)
	@scripts/native.sh $(ARGS)

bench: ## compare with bare Envoy (QUICK=1: a short run); writes docs/performance.md
	@scripts/bench.sh $(ARGS)

clean: ## remove what was built, tools, Python environment and Node packages too
	rm -rf target dist wasm-tests/sdk-node/node_modules
