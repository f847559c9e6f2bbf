#!/usr/bin/env bash
# The wheel, built here, installed into empty environments and tried from outside the checkout:
# with the lowest versions that can be had together and with the newest. (PyTorch 2.9 for CUDA wants
# Triton 3.5, whose interpreter cannot be left again; without CUDA it would do.)
#
#   PYTHON=python3 tests/versions.sh [lowest|newest]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=$(command -v "${PYTHON:-python3}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

declare -A pins=(
    [lowest]="torch==2.10.0 numpy==1.26.0 triton==3.6.0"
    [newest]="torch numpy triton"
)

"$python" -m pip wheel --quiet --no-deps --wheel-dir "$work" "$root"
"$python" -m zipfile --list "$work"/*.whl >"$work/files"
grep --quiet /LICENSE "$work/files"
grep --quiet kernels/c/reparam_kl.c "$work/files"
cp -r "$root/tests" "$root/docs" "$root/cli.py" "$root/pyproject.toml" "$work"

for name in ${1:-lowest newest}; do
    "$python" -m venv "$work/$name"
    # shellcheck disable=SC2086
    "$work/$name/bin/pip" install --quiet --quiet --upgrade --upgrade-strategy eager \
        "$work"/betavae_core-*.whl pytest pytest-xdist pytest-benchmark hypothesis ${pins[$name]}
    (
        cd "$work"
        "$work/$name/bin/python" -m pip list 2>/dev/null | grep -iE '^(torch|numpy|triton) '
        "$work/$name/bin/betavae" check
        "$work/$name/bin/betavae" train blobs --arch mlp --steps 20 --out "$work/run-$name"
        "$work/$name/bin/python" -m pytest -o pythonpath= -o filterwarnings=default -m "not slow" \
            tests/test_{reparam_kl,bernoulli_nll,gaussian_nll,kernels_interpreted,kernels_c}.py \
            tests/test_{resume,storage,training,objectives,model,layers,capture,optimizers,mixed_precision,linear}.py
    )
    echo "held: $name"
    rm -rf "${work:?}/$name"
done
