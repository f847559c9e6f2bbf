"""bench/device.sh tells the truth: what ran, what failed, what took too long, what was skipped.

Its interpreter here is a stub, so this is about the script alone and needs no GPU.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "bench" / "device.sh"
STUB = """#!/usr/bin/env bash
echo "$PWD | ${*//$'\n'/ }" >>"$CALLS"
case "$*" in
    *betavae_core.bench.machine*) echo '{"gpu": "stub"}' ;;
    *"-m pytest"*)
        for argument; do case $argument in --junitxml=*) xml=${argument#*=} ;; esac; done
        echo "<testsuites><testsuite $COUNTS time='1.5'/></testsuites>" >"$xml"
        echo "what pytest said" ;;
    -c*) exec "$REAL" "$@" ;;
    *"cli.py check"*) sleep "$CHECK_SLEEP"; echo '{"rows": []}'; echo why >&2; exit "$CHECK" ;;
    *"cli.py bench"*) echo '{"ratios": {}}' ;;
    *"cli.py train"*) echo '{"images_per_s": 1}' ;;
esac
"""
SANITIZER = """#!/usr/bin/env bash
while [ "$1" != "$PYTHON" ]; do shift; done
echo "sanitized without the cache of memory: $PYTORCH_NO_CUDA_MEMORY_CACHING" >>"$CALLS"
exec "$@"
"""
PASSED = "tests='4' failures='0' errors='0' skipped='1'"
SKIPPED = "tests='4' failures='0' errors='0' skipped='4'"
FILES = {
    "machine.json", "tests.json", "check.json", "bench.json", "populations.json", "long.json",
    "summary.json", "log.txt",
}  # fmt: skip

pytestmark = pytest.mark.skipif(
    not (shutil.which("bash") and shutil.which("timeout")), reason="needs bash and timeout"
)


def device_script(
    folder: Path, *arguments: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    """device.sh run from `folder` with an interpreter that is not one."""
    stub, sanitizer = folder / "stub", folder / "bin" / "compute-sanitizer"
    sanitizer.parent.mkdir(exist_ok=True)
    for file, script in ((stub, STUB), (sanitizer, SANITIZER)):
        file.write_text(script)
        file.chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{sanitizer.parent}:{os.environ['PATH']}",
        "PYTHON": str(stub), "REAL": sys.executable, "CALLS": str(folder / "calls"),
        "COUNTS": PASSED, "CHECK": "0", "CHECK_SLEEP": "0", **settings,
    }  # fmt: skip
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def fates(folder: Path) -> dict[str, str]:
    summary = json.loads((folder / "summary.json").read_text())
    return {row["step"]: row["fate"] for row in summary["steps"]}


def test_the_device_script_leaves_its_files_and_succeeds(tmp_path: Path) -> None:
    done = device_script(tmp_path, "out")
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    assert {file.name for file in out.iterdir()} == FILES
    assert set(fates(out).values()) == {"ok"}
    assert json.loads((out / "tests.json").read_text())["passed"] == 3
    assert json.loads((out / "bench.json").read_text()) == {"ratios": {}}
    assert "what pytest said" in (out / "log.txt").read_text()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert "sanitized without the cache of memory: 1" in calls
    calls = [call for call in calls if not call.startswith("sanitized")]
    assert all(call.startswith(f"{SCRIPT.parent.parent} | ") for call in calls)
    assert "cli.py check --device cuda --json" in "".join(calls)
    assert "--steps 300000 --batch-size 64" in "".join(calls)


def test_the_device_script_runs_the_steps_that_are_named(tmp_path: Path) -> None:
    assert device_script(tmp_path, "out", "long", "tests").returncode == 0
    assert [*fates(tmp_path / "out")] == ["tests", "count", "long"]


def test_the_device_script_goes_on_after_a_failure_and_tells(tmp_path: Path) -> None:
    done = device_script(tmp_path, "out", CHECK="1")
    assert done.returncode == 1
    assert "why" in done.stdout
    assert fates(tmp_path / "out")["check"] == "failed with status 1"
    assert fates(tmp_path / "out")["bench"] == "ok"
    assert (tmp_path / "out" / "check.json").exists()


def test_the_device_script_stops_what_takes_too_long(tmp_path: Path) -> None:
    done = device_script(tmp_path, "out", CHECK_SLEEP="60", CHECK_SECONDS="1")
    assert done.returncode == 1
    assert fates(tmp_path / "out")["check"] == "timed out after 1 s"
    assert not (tmp_path / "out" / "check.json").exists()
    assert fates(tmp_path / "out")["bench"] == "ok"


def test_tests_that_were_all_skipped_are_a_failure_of_the_device_script(tmp_path: Path) -> None:
    done = device_script(tmp_path, "out", COUNTS=SKIPPED)
    assert done.returncode == 1
    assert "no GPU test ran" in done.stdout
    assert fates(tmp_path / "out")["count"] == "failed with status 1"


def test_what_an_earlier_run_left_does_not_pass_for_this_one_s(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "check.json").write_text("old")
    (out / "mine.txt").write_text("kept")
    device_script(tmp_path, "out", CHECK_SLEEP="60", CHECK_SECONDS="1")
    assert not (out / "check.json").exists()
    assert (out / "mine.txt").read_text() == "kept"


@pytest.mark.parametrize("arguments", [(), ("",), ("one", "two"), ("one", "tests check")])
def test_the_device_script_says_how_it_is_used(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = device_script(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: " in done.stderr
    assert not (tmp_path / "calls").exists()
