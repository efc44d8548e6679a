#!/usr/bin/env bash
# Runs the whole suite under settings that change how sums are rounded: the number of threads, and the
# instructions that torch, oneDNN and MKL may use. One line a setting: torch, setting, outcome.
#
#     tests/settings.sh                                  in the environment that is active
#     PYTHONS="python /venvs/lowest/bin/python" tests/settings.sh      in several, one torch each
#     tests/settings.sh tests/kd -x                      arguments go to pytest
#
# What pytest said is left in build/settings/. Exit code 1 where a run was not green.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.."

settings=(
  ""
  OMP_NUM_THREADS=1
  OMP_NUM_THREADS=4
  ATEN_CPU_CAPABILITY=default
  ONEDNN_MAX_CPU_ISA=SSE41
  MKL_CBWR=COMPATIBLE
)
logs=build/settings
mkdir -p "$logs"
unset OMP_NUM_THREADS ATEN_CPU_CAPABILITY ONEDNN_MAX_CPU_ISA MKL_CBWR
failed=0
for python in ${PYTHONS:-python}; do
  torch=$("$python" -c "import torch; print(torch.__version__)") || exit 1
  for setting in "${settings[@]}"; do
    log=$logs/$torch-${setting:-default}.log
    env $setting "$python" -m pytest "$@" >"$log" 2>&1 || failed=1
    printf '%-14s %-28s %s\n' "$torch" "${setting:-default}" "$(grep -E ' in [0-9.]+s' "$log" | tail -1)"
  done
done
exit $failed
