#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, straight from the checkout:
#
#     bench/device.sh OUTDIR [STEP...]
#
# runs these steps, or those that are named, and leaves what they say in OUTDIR:
#
#     machine      the GPU and the versions                                   machine.json
#     tests        the GPU tests                                              tests.json
#     check        every op and gradient against the oracle                   check.json
#     bench        ops and training steps against eager and compiled PyTorch  bench.json
#     populations  many models at once against one at a time                  populations.json
#     long         300,000 steps of batch 64, as a user makes them            long.json
#     sanitizer    the kernels' tests under compute-sanitizer
#
# with summary.json, and log.txt with the end of what went to stderr. Nothing is installed and
# nothing downloaded. A step that fails or overruns its limit does not stop the next; the exit
# status is 1 if any did, and 2 for bad usage. PYTHON names the interpreter (python3), and
# MACHINE_SECONDS, TESTS_SECONDS and so on the limits: 26 minutes in all, most of them never needed.
set -uo pipefail

steps=(machine tests check bench populations long sanitizer)
usage() {
    echo "usage: $0 OUTDIR [STEP...], of ${steps[*]}" >&2
    exit 2
}
[ $# -ge 1 ] && [ -n "$1" ] || usage
target=$1
shift
for name; do
    [[ $name != *' '* && " ${steps[*]} " == *" $name "* ]] || usage
done
wanted=" ${*:-${steps[*]}} "
mkdir -p -- "$target" && out=$(cd -- "$target" && pwd) || exit 2
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd) && cd -- "$root" || exit 2
scratch=$(mktemp -d) || exit 2
trap 'rm -rf -- "$scratch"' EXIT

python=${PYTHON:-python3}
log=$scratch/log errors=$scratch/errors
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1
export TRITON_CACHE_DIR="$scratch/triton" TORCHINDUCTOR_CACHE_DIR="$scratch/inductor"
export MPLCONFIGDIR="$scratch/matplotlib" XDG_CACHE_HOME="$scratch/cache"

files=("$out"/{machine,tests,check,bench,populations,long,summary}.json "$out"/log.txt)
rm -f -- "${files[@]}" # what an earlier run left must not pass for this one's

failed=0
rows=() # one JSON object a step

# step NAME SECONDS FILE COMMAND...: run a step that is wanted, under its limit or the one that
# NAME_SECONDS gives, and note its fate. Its stdout goes to FILE (to the log where that is $errors),
# and the end of its stderr is shown if it fails.
step() {
    local name=$1 setting=${1^^}_SECONDS file=$3 began=$SECONDS status=0 fate=ok
    local limit=${!setting:-$2}
    [[ $wanted == *" $name "* ]] || return
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

pytest=("$python" -m pytest -m gpu -q --tb=short -p no:cacheprovider -o addopts=
    -o filterwarnings=default -o junit_logging=no)
step machine 30 "$out/machine.json" "$python" -m betavae_core.bench.machine
step tests 300 "$errors" "${pytest[@]}" tests --durations=5 --continue-on-collection-errors \
    --junitxml="$scratch/tests.xml"
wanted=${wanted/ tests / tests count }
step count 10 "$out/tests.json" "$python" -c "$count_tests" "$scratch/tests.xml"
step check 120 "$out/check.json" "$python" cli.py check --device cuda --json
step bench 400 "$out/bench.json" "$python" cli.py bench --device cuda --suite ops --suite step \
    --seconds 60 --json
step populations 300 "$out/populations.json" "$python" cli.py bench --device cuda \
    --suite populations --seconds 20 --json
step long 240 "$out/long.json" "$python" cli.py train --device cuda --steps 300000 \
    --batch-size 64 --out "$scratch/long" --json
PYTORCH_NO_CUDA_MEMORY_CACHING=1 step sanitizer 150 "$errors" compute-sanitizer --tool memcheck \
    --error-exitcode 9 "${pytest[@]}" tests/test_gpu.py -k is_the_oracle

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
