#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, in under ten minutes, straight from the checkout:
#
#     bench/device.sh OUTDIR
#
# runs the GPU tests, `check` and `bench`, and leaves in OUTDIR machine.json, tests.xml, tests.json,
# check.json, bench.json, summary.json, and log.txt with the end of what went to stderr. Nothing is
# installed and nothing downloaded. A step that fails or overruns its limit does not stop the next;
# the exit status is 1 if any did, and 2 for bad usage. PYTHON names the interpreter (python3), and
# MACHINE_SECONDS, TESTS_SECONDS, CHECK_SECONDS and BENCH_SECONDS the limits.
set -uo pipefail

if [ $# -ne 1 ] || [ -z "$1" ]; then
    echo "usage: $0 OUTDIR" >&2
    exit 2
fi
mkdir -p -- "$1" && out=$(cd -- "$1" && pwd) || exit 2
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd) && cd -- "$root" || exit 2
scratch=$(mktemp -d) || exit 2
trap 'rm -rf -- "$scratch"' EXIT

python=${PYTHON:-python3}
log=$scratch/log errors=$scratch/errors
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1
export TRITON_CACHE_DIR="$scratch/triton" TORCHINDUCTOR_CACHE_DIR="$scratch/inductor"
export MPLCONFIGDIR="$scratch/matplotlib"

files=("$out"/{machine,tests,check,bench,summary}.json "$out"/tests.xml "$out"/log.txt)
rm -f -- "${files[@]}" # what an earlier run left must not pass for this one's

failed=0
rows=() # one JSON object a step

# step NAME SECONDS FILE COMMAND...: run a step under its limit and note its fate. Its stdout goes
# to FILE (to the log where that is $errors), and the end of its stderr is shown if it fails.
step() {
    local name=$1 limit=$2 file=$3 began=$SECONDS status=0 fate=ok
    shift 3
    echo "== $name, at most $limit s" | tee -a "$log"
    : >"$errors"
    timeout --kill-after=5 "$limit" "$@" >>"$file" 2>>"$errors" || status=$?
    cat -- "$errors" >>"$log"
    case $status in
        0) ;;
        124 | 137) fate="timed out after $limit s" ;;
        *) fate="failed with status $status" ;;
    esac
    if [ "$status" -ne 0 ]; then
        failed=1
        tail -n 15 -- "$errors" | cut -c -300
    fi
    [ -s "$file" ] || rm -f -- "$file"
    local seconds=$((SECONDS - began))
    rows+=("{\"step\": \"$name\", \"status\": $status, \"fate\": \"$fate\", \"seconds\": $seconds}")
    printf '   %s, %s s\n' "$fate" "$seconds"
}

# The test run in numbers. A run in which every test was skipped has shown nothing: it failed.
count_tests='
import json, sys
from xml.etree import ElementTree

suites = list(ElementTree.parse(sys.argv[1]).getroot().iter("testsuite"))
kinds = ("failures", "errors", "skipped")
counts = {key: sum(int(s.get(key, 0)) for s in suites) for key in ("tests", *kinds)}
counts["passed"] = counts["tests"] - sum(counts[kind] for kind in kinds)
counts["seconds"] = sum(float(s.get("time", 0)) for s in suites)
print(json.dumps(counts, indent=2))
if not counts["passed"]:
    sys.exit("no GPU test ran: is there an NVIDIA GPU that PyTorch can use?")
'

step machine "${MACHINE_SECONDS:-30}" "$out/machine.json" "$python" -m betavae_core.bench.machine
step tests "${TESTS_SECONDS:-180}" "$errors" \
    "$python" -m pytest tests -m gpu -q --tb=short --durations=5 --continue-on-collection-errors \
    -p no:cacheprovider -o addopts= -o filterwarnings=default -o junit_logging=no \
    --junitxml="$out/tests.xml"
step count 10 "$out/tests.json" "$python" -c "$count_tests" "$out/tests.xml"
step check "${CHECK_SECONDS:-120}" "$out/check.json" "$python" cli.py check --device cuda --json
step bench "${BENCH_SECONDS:-230}" "$out/bench.json" "$python" cli.py bench --device cuda --suite ops --suite step --seconds 60 --json

(
    IFS=,
    echo "{\"failed\": $failed, \"steps\": [${rows[*]}]}"
) >"$out/summary.json"
tail -c 1000000 "$log" >"$out/log.txt"
for file in "${files[@]}"; do
    if [ -f "$file" ] && [ "$(wc -c <"$file")" -gt $((15 * 1024 * 1024)) ]; then
        echo "$file was larger than 15 MiB and is removed"
        rm -f -- "$file"
        failed=1
    fi
done
exit "$failed"
