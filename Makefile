# `make demo` needs nothing but Python 3.10 or newer; everything it installs goes to .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo learn-demo test results bench bench-quick faults lint docs docs-check figures picture clean gl resolve resolve-write .venv

demo: gl $(STAMP)
	@mkdir -p runs/demo
	$(BIN)/wm-planner robot run config/robots/arm_reach.yaml --episodes 1 --film runs/demo/film.mp4 --record runs/demo/bags

# A robot whose motor is twice as strong as the one that was trained on, and the learner beside it.
# Figure and film show success over episodes, and which version of the checkpoint drove each of them.
learn-demo: gl $(STAMP)
	@rm -rf runs/learn-demo
	@$(BIN)/wm-planner learn runs/learn-demo/sim/bags --checkpoint wall-base --output runs/learn-demo/learn & \
	learner=$$!; trap "kill $$learner 2>/dev/null" EXIT; \
	$(BIN)/wm-planner sim --task wall --shift gain=2.0 --episodes 80 --output runs/learn-demo/sim \
	    --versions runs/learn-demo/learn/versions && \
	$(BIN)/wm-planner plot learning runs/learn-demo/sim/bags --output runs/learn-demo/success.png \
	        --film runs/learn-demo/success.mp4
	@echo "figure: runs/learn-demo/success.png; film of all episodes: runs/learn-demo/success.mp4"

test: gl $(STAMP)
	$(BIN)/python -m pytest -n 2 --durations=10

# The tables, the ROS graph, the figures, and the benchmark last, when nothing else runs. Takes hours on two
# cores, most of them CEM's, and goes on where it was left.
results: gl $(STAMP)
	@for name in results checkpoints table1 solvers latency replan shifts adaptation; do \
	    $(BIN)/wm-planner results --config config/tables/$$name.yaml --output runs/$$name || exit 1; \
	done
	@for task in wall point_maze pusht; do for clock in lockstep realtime; do \
	    run=runs/results/sim-$$task-$$clock; test -e $$run.json || $(BIN)/wm-planner sim --task $$task \
	        --episodes 20 --clock $$clock --no-record --output $$run --json $$run.json || exit 1; \
	done; done
	@for task in wall point_maze pusht; do for figure in \
	    "model-error --checkpoint base --checkpoint adversarial --checkpoint online" \
	    "landscape --checkpoint base --checkpoint adversarial"; do \
	    output=runs/results/$${figure%% *}-$$task.png; test -e $$output || \
	        $(BIN)/wm-planner plot $$figure --task $$task --output $$output || exit 1; \
	done; done
	$(BIN)/wm-planner frontier --config config/tables/frontier.yaml --output runs/frontier
	$(BIN)/python -m benchmarks --clock cpu --save

bench: $(STAMP)
	$(BIN)/python -m benchmarks --save

bench-quick: $(STAMP)
	$(BIN)/python -m benchmarks --quick

faults: gl $(STAMP)
	$(BIN)/python -m faults --save

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Every line of README and documents as it is typed, but those marked: about an hour of an idle machine.
docs-check: gl $(STAMP)
	$(BIN)/python -m test.check_docs

figures: $(STAMP)
	$(BIN)/python docs/figures.py

# The moving picture of README. Its replan times are those of the machine: make it on one that is idle.
picture: gl $(STAMP)
	$(BIN)/wm-planner eval --task arm_reach --episodes 1 --film docs/arm.webp

clean:
	rm -rf .venv build site install log runs *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv: $(STAMP)

# A sourced ROS 2 is used as it is: no wheels of it, and the numpy that its messages are built for.
$(STAMP): setup.py constraints.txt tools/install.py
	@$(PYTHON) tools/install.py
	@touch $@

# Does everything resolve, for each Python and machine that docs/install.md names? A dry run, with uv.
resolve: $(STAMP)
	@$(BIN)/python -m pip install --quiet -c constraints.txt uv
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/resolve.py --check docs/install.md

resolve-write: $(STAMP)
	@$(BIN)/python -m pip install --quiet -c constraints.txt uv
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/resolve.py --write docs/install.md

# Offscreen rendering needs libEGL and a driver for it: Mesa's, or a graphics card's own.
gl:
	@if [ "$$MUJOCO_GL" = osmesa ]; then exit 0; fi; \
	has() { ldconfig -p 2>/dev/null | grep -q "$$1" || /sbin/ldconfig -p 2>/dev/null | grep -q "$$1"; }; \
	present() { \
	    has libEGL.so.1 && { has libEGL_nvidia.so || has libgallium || \
	    ls /usr/lib/*/dri/swrast_dri.so /usr/lib64/dri/swrast_dri.so 2>/dev/null | grep -q .; }; \
	}; \
	present && exit 0; \
	packages="libegl1 libgl1-mesa-dri"; \
	if ! command -v apt-get >/dev/null; then sudo=no; \
	elif [ "$$(id -u)" = 0 ]; then sudo=; \
	elif sudo -n true 2>/dev/null; then sudo="sudo -n"; \
	else sudo=no; fi; \
	if [ "$$sudo" = no ]; then \
	    echo "make: the simulator draws its images with EGL, and libEGL or Mesa's driver is missing." >&2; \
	    echo "make: install them (Debian, Ubuntu: sudo apt-get install $$packages) and run make again." >&2; \
	    exit 1; \
	fi; \
	echo "installing $$packages: the simulator draws its images with them"; \
	$$sudo apt-get update && $$sudo apt-get install -y $$packages
