# SPDX-License-Identifier: Apache-2.0
# The desk: the package on a machine without ROS. A robot uses colcon and none of this.
#
# Only the command line sets these. The environment does not: a sourced ROS has a ROS_DISTRO too.
ROS_DISTRO := kilted
PYTHON := python3
MODEL :=
INPUT :=
OUTPUT :=
LABELS :=
TESTS :=
TRAINING_TESTS := examples/custom_dataset/test benchmarks/test

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV := .venv/$(ROS_DISTRO)-$(VERSION)
PIP := $(VENV)/bin/python -I -m pip --quiet --disable-pip-version-check
PINS := tools/desk/constraints.txt
LOCK := tools/desk/lock
# Nothing but the very files that tools/desk/lock.py found in the index.
INSTALL = $(PIP) install --require-hashes -r
INTERFACES := $(shell find tools/ros_interfaces -type f \
	-not -path '*/build/*' -not -path '*.egg-info/*' -not -name '*.pyc')
# Folders too: they change when a file is deleted.
SOURCES := setup.py setup.cfg pyproject.toml package.xml \
	$(shell find trt_perception launch config resource -not -name __pycache__ -not -name '*.pyc')

# The start-up hook of the ROS wheels leaves these behind in all that a Python of theirs starts, and
# would then not set up another environment.
ifdef _ROS_WHEELS_BOOTSTRAP_COMPLETE
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE LD_LIBRARY_PATH
endif
# For the shell: a text as it is, with spaces, quotes and dollars.
quoted = '$(subst ','\'',$1)'
HERE := $(call quoted,$(CURDIR)/$(VENV))
RUN := ROS_DISTRO=$(ROS_DISTRO) PYTHONPATH= AMENT_PREFIX_PATH=$(HERE) PATH=$(HERE)/bin:"$$PATH" \
	$(VENV)/bin
# What is not given is left to the command: it knows the defaults.
option = $(if $(value $1),--$2 $(call quoted,$(value $1)))
DEMO = $(call option,MODEL,model) $(call option,INPUT,input) $(call option,OUTPUT,output) \
	$(call option,LABELS,labels)

# TensorRT's types, for mypy alone: among the packages they would pass for TensorRT itself, and what
# they ask for is on no public index. Five lines of them are no Python.
STUBS = $(INSTALL) $(LOCK)/stubs.txt --no-deps --upgrade --target $(VENV)/stubs && \
	sed -i -e 's/, in: /, in_: /' -e 's/channel_axis: int) -> IScale/channel_axis: int = ...) -> IScale/' \
		$(VENV)/stubs/tensorrt_bindings/tensorrt.pyi

.NOTPARALLEL:
.PHONY: help demo training test test-training lint clean check setup.bash

help:
	@echo 'make demo                       detect in a rendered drive; results in demo_output/'
	@echo 'make demo MODEL=m.onnx INPUT=i  your own detector, your video, bag or folder of pictures;'
	@echo '                                LABELS=coco if the model has no class names; OUTPUT=folder'
	@echo 'make training                   install what examples/custom_dataset trains with'
	@echo 'make test                       all tests, or TESTS="test/test_desk.py -k venv"'
	@echo 'make test-training              tests of what needs PyTorch: the trainer, its tutorial, the peers'
	@echo 'make lint                       style, types and floors only'
	@echo 'make clean                      remove what make built here (not the results)'
	@echo
	@echo 'ROS_DISTRO=kilted|jazzy and PYTHON=python3.10|python3.11|python3.12 choose what it runs on.'
	@echo 'It all goes into .venv/ and nothing else of the system changes. After demo or training,'
	@echo '"source .venv/setup.bash" lets you type trt-perception and python3 yourself.'

demo: check $(VENV)/package.stamp setup.bash
	@$(RUN)/trt-perception demo $(DEMO)

training: check $(VENV)/training.stamp $(VENV)/package.stamp setup.bash
	@echo 'Ready: source .venv/setup.bash'

# All of them on all cores, file by file; those that are asked for one after the other.
test: check $(VENV)/test.stamp $(VENV)/package.stamp
	@ROS_PYTHON_CHECK_FIELDS=1 $(RUN)/pytest $(or $(TESTS),-n auto --dist loadfile)

test-training: check $(VENV)/test.stamp $(VENV)/training.stamp $(VENV)/package.stamp
	@$(RUN)/pytest $(TRAINING_TESTS)

lint: TESTS := test/test_style.py
lint: test

clean:
	rm -rf .venv build/lib build/bdist.* *.egg-info tools/ros_interfaces/build \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

check:
ifeq ($(VERSION),)
	@echo "PYTHON=$(PYTHON) does not run: give one of python3.10, python3.11 and python3.12, or" \
		'sudo apt install python3 python3-dev python3-venv' >&2; exit 1
endif
	@$(PYTHON) tools/desk/check.py '$(ROS_DISTRO)'

# A stamp is younger than what was installed from. The environment of the demo comes first and is
# whole without the tests' part.
$(VENV)/desk.stamp: $(LOCK)/desk-$(ROS_DISTRO).txt
	@echo 'Installing ROS 2 $(ROS_DISTRO) and Python packages into $(VENV) (about a minute)'
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) $<
	@touch $@

$(VENV)/interfaces.stamp: $(VENV)/desk.stamp $(INTERFACES)
	@echo 'Building vision_msgs, composition_interfaces and bond (about 30 seconds)'
	@$(PIP) install --no-deps --no-build-isolation ./tools/ros_interfaces
	@touch $@

$(VENV)/test.stamp: $(VENV)/desk.stamp $(LOCK)/test.txt $(LOCK)/stubs.txt
	@echo 'Installing what the tests need into $(VENV)'
	@$(INSTALL) $(LOCK)/test.txt
	@$(STUBS)
	@touch $@

$(VENV)/training.stamp: $(VENV)/desk.stamp tools/desk/requirements-training.txt $(PINS)
	@echo 'Installing PyTorch into $(VENV) (some minutes)'
	@$(PIP) install -c $(PINS) -r tools/desk/requirements-training.txt
	@touch $@

# Not editable: pip would leave out the launch files, the configuration and the ament index.
$(VENV)/package.stamp: $(VENV)/interfaces.stamp $(SOURCES)
	@rm -rf build/lib build/bdist.*  # else modules that are gone would be installed again
	@$(PIP) install --no-deps --no-build-isolation .
	@touch $@

# For a shell that goes on by hand, with what make ran last.
setup.bash:
	@printf '%s\n' 'export ROS_DISTRO=$(ROS_DISTRO) PYTHONPATH=' \
		$(call quoted,export AMENT_PREFIX_PATH=$(HERE)) \
		$(call quoted,export PATH=$(HERE)/bin:"$$PATH") > .venv/setup.bash
