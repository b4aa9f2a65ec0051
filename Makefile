# make reproduce [CONFIG=config/paper.yaml]   the whole pipeline; `make help` lists the rest

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
SNAKEMAKE = snakemake $(if $(CONFIG),--configfile $(CONFIG))
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help reproduce report check_report archive tables docs settings full accuracy ablations literal \
	few_patients repeats volumes agent networks trust smoke test test_gpu sheet_check faults cluster_check lint \
	benchmark accelerator memory cost time_to_accuracy real_heads clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z_ ]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than Python 3.11; name another: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

reproduce: $(INSTALLED) ## everything from volumes to Table 2 and the figures; CONFIG=config/paper.yaml for another run
	$(SNAKEMAKE)

report: $(INSTALLED) ## report.html of a finished run (CONFIG= as for reproduce)
	$(SNAKEMAKE) --report report.html

check_report: $(INSTALLED) ## report.html in a real browser: every picture shows, and no error; needs Debian's chromium
	@command -v chromium >/dev/null || { echo "error: no chromium here; on Debian: apt-get install chromium"; exit 1; }
	REPORT=report.html pytest tests/test_report.py

archive: $(INSTALLED) ## a finished run in one file without its volumes, for others to read (RUN=default)
	PYTHONPATH=workflow_scripts python -m regagent.reproduction.archive results/$(or $(RUN),default) $(or $(RUN),default).tar.gz

# What is made from registrations and trainings alone.
RESULTS = $(filter-out draw_cohort write_provenance,$(shell sed -n 's/^rule \(.*\):/\1/p' rules/report.smk))

tables: $(INSTALLED) ## the tables and figures of a run anew, in an unpacked archive too (CONFIG= as for reproduce)
	$(SNAKEMAKE) --allowed-rules $(RESULTS) --forcerun $(RESULTS) -- all

docs: settings ## README's table and pictures and docs/results.md from a finished run (RUN=default)
	PYTHONPATH=workflow_scripts python docs/fill.py results/$(or $(RUN),default)

settings: $(INSTALLED) ## the tables of config/README.md and config/schema.json from the models of the settings
	PYTHONPATH=workflow_scripts python docs/fill.py

full accuracy ablations literal few_patients repeats: $(INSTALLED) ## longer experiments, see the files of these names in config/
	snakemake --configfile config/$@.yaml

volumes: $(INSTALLED) ## whole heads in space, from any start: networks against 3D Elastix
	snakemake --configfile config/volumes.yaml -- $(addprefix results/volumes/,tables/volumes.md \
		figures/volume_range.png figures/volume_episode.png)

OWN_AGENT = workflow_scripts/regagent/data/agent.pt

agent: $(INSTALLED) ## the agent that `regagent register` takes if no other is given
	snakemake --configfile config/agent.yaml
	PYTHONPATH=workflow_scripts python -m regagent.agent.release results/agent/models/RL-LME/seed1/agent.pt $(OWN_AGENT)

networks: $(INSTALLED) ## the networks by which `regagent register` registers volumes if no others are given
	snakemake --configfile config/volumes.yaml -- results/volumes/models/space.pt
	PYTHONPATH=workflow_scripts python -m regagent.agent.release results/volumes/models/space.pt workflow_scripts/regagent/data/space.pt

trust: $(INSTALLED) ## what that agent says of its own errors, on heads that it never saw (AGENT= another one)
	snakemake --configfile config/agent.yaml config/trust.yaml --until select_slices
	PYTHONPATH=workflow_scripts python benchmarks/trust.py $(or $(AGENT),$(OWN_AGENT))

smoke: $(INSTALLED) ## every rule and method once, on a tiny cohort, in minutes
	snakemake --configfile config/smoke.yaml

test: $(INSTALLED) ## the test suite
	pytest

test_gpu: $(INSTALLED) ## those of its tests that take a GPU, where there is one
	pytest -m accelerator -rs

sheet_check: $(INSTALLED) ## sample sheets from files to Table 2: four formats against the simulated run, thick slices
	PYTHONPATH=workflow_scripts python tests/sheet_check.py

faults: $(INSTALLED) ## the smoke run killed at thirty random moments, against one left alone
	PYTHONPATH=workflow_scripts python tests/kill_check.py

cluster_check: $(INSTALLED) ## a run on a real SLURM of this one machine, disturbed, against one without; as root on Debian
	PYTHONPATH=workflow_scripts python tests/cluster_check.py

lint: $(INSTALLED) ## formats, lints and types of Python and Snakemake files
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	snakemake --lint
	mypy

benchmark: $(INSTALLED) ## training steps and registrations a second on this machine, beside the usual ways
	PYTHONPATH=workflow_scripts python benchmarks/training.py
	PYTHONPATH=workflow_scripts python benchmarks/registration.py
	PYTHONPATH=workflow_scripts python benchmarks/figure.py

accelerator: $(INSTALLED) ## training and registration on this machine's GPU, in four minutes
	PYTHONPATH=workflow_scripts python benchmarks/accelerator.py

memory: $(INSTALLED) ## peak memory of paper-sized jobs beside their rules' mem_mb, after `make reproduce`
	PYTHONPATH=workflow_scripts python benchmarks/memory.py

cost: $(INSTALLED) ## CPU time and memory of simulation and registrations for 25, 50 and 99 patients
	for n in 25 50 99; do snakemake --configfile config/cost.yaml --config run=cost-$$n "cohort={patients: $$n}" || exit 1; done
	PYTHONPATH=workflow_scripts python benchmarks/cost.py results/cost-25 results/cost-50 results/cost-99

time_to_accuracy: $(INSTALLED) ## wall time of a training until its validation error is 1 px, after `make reproduce`
	PYTHONPATH=workflow_scripts python benchmarks/time_to_accuracy.py

real_heads: $(INSTALLED) ## the agent that comes with the software on real heads from Debian packages; needs apt-get
	PYTHONPATH=workflow_scripts python benchmarks/real_heads.py
	snakemake --configfile config/real_heads.yaml

clean: ## remove what the runs wrote
	rm -rf results/*/ report.html
