#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The tests that need a GPU, and the kernels under compute-sanitizer where there is one.
#   test/gpu/run.sh [python3]
set -eu
cd "$(dirname "$0")/../.."
python=${1:-python3}
export PYTHONPATH="$PWD:$PWD/test:${PYTHONPATH:-}"
"$python" -m pytest -p no:cacheprovider test/gpu
if command -v compute-sanitizer > /dev/null; then
    for tool in memcheck racecheck initcheck; do
        compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 5 \
            "$python" test/gpu/sanitize.py
    done
else
    echo 'compute-sanitizer is not installed: the kernels were not run under it' >&2
fi
