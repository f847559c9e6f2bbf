"""Every promise can be seen to break: a fault planted in a copy of the tree fails its tests.

`make sabotage` plants one fault a promise; `make test` sees that each still fits the code.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import promises
import pytest
from run_cases import ROOT

LEFT_OUT = shutil.ignore_patterns(".*", "runs", "__pycache__")


class Fault(NamedTuple):
    """What stands in a file, what stands there instead, and the tests that must see it."""

    file: str
    before: str
    after: str
    tests: str


UNREAD = "    except Exception as error:\n", "    except ZeroDivisionError as error:\n"
FAULTS = {
    "kill": Fault(
        "betavae_core/trainer.py",
        "            self.counter.fill_(self.step)\n",
        "",
        "soak/test_kills.py -k npy",
    ),
    "kill-sweep": Fault(
        "betavae_core/trainer.py",
        "            self.counter.fill_(self.step)\n",
        "",
        "test_populations_processes.py -k killed_leaves",
    ),
    "death": Fault(
        "betavae_core/storage.py",
        "temporary = path.with_name(PARTIAL.format(path.name))",
        "temporary = path",
        "soak/test_deaths.py -k die",
    ),
    "power": Fault(
        "betavae_core/storage.py",
        "        os.fsync(file.fileno())\n",
        "",
        "soak/test_deaths.py -k power",
    ),
    "disk": Fault(
        "betavae_core/run_directory.py",
        "            yield\n        except OSError as error:",
        "            yield\n        except ZeroDivisionError as error:",
        "soak/test_deaths.py -k full",
    ),
    "idx": Fault("betavae_core/data/files.py", *UNREAD, "soak/test_damage.py -k idx3"),
    "npy": Fault("betavae_core/data/files.py", *UNREAD, "soak/test_damage.py -k images.npy"),
    "npz": Fault("betavae_core/data/files.py", *UNREAD, "soak/test_damage.py -k npz"),
    "h5": Fault("betavae_core/data/files.py", *UNREAD, "soak/test_damage.py -k h5"),
    "images": Fault(
        "betavae_core/data/images.py",
        "    return not path.is_file()",
        "    return False",
        "soak/test_damage.py -k nowhere",
    ),
    "safetensors": Fault(
        "betavae_core/storage.py",
        "    except (SafetensorError, ValueError, KeyError) as error:",
        "    except ZeroDivisionError as error:",
        "soak/test_damage.py -k safetensors",
    ),
    "toml": Fault(
        "betavae_core/run_directory.py",
        "    except UnicodeDecodeError as error:\n        raise DataError",
        "    except ZeroDivisionError as error:\n        raise DataError",
        "soak/test_damage.py -k 'costs and toml'",
    ),
    "checkpoint": Fault(
        "betavae_core/storage.py",
        "if hashlib.sha256(content).hexdigest() != sha256:",
        "if False:",
        "soak/test_damage.py -k damaged_checkpoint",
    ),
    "digest": Fault(
        "betavae_core/data/files.py",
        "recorded[0].lower() != digest_of(path)",
        "False",
        "soak/test_damage.py -k digest",
    ),
    "pickle": Fault(
        "bench/machine.py",
        "from __future__ import annotations\n",
        "from __future__ import annotations\nimport numpy\nnumpy.load('x', allow_pickle=True)\n",
        "test_data_pickles.py",
    ),
    "parity-cpu": Fault(
        "betavae_core/ops/bernoulli_nll.py",
        "torch.mul(slope, dnll[:, None],",
        "torch.mul(slope, dnll[:, None] * 1.001,",
        "test_bernoulli_nll.py -k values_and",
    ),
    "parity-kernels": Fault(
        "kernels/reparam_kl.py",
        "        twice_kl = m * m",
        "        twice_kl = 1.001 * m * m",
        "test_kernels_interpreted.py -k reparam",
    ),
    "extremes": Fault(
        "betavae_core/ops/reparam_kl.py",
        "LOGVAR_MIN, LOGVAR_MAX = -30.0, 18.0",
        "LOGVAR_MIN, LOGVAR_MAX = -30.0, 1e9",
        "soak/test_extremes.py -k posteriors",
    ),
    "non-finite": Fault(
        "betavae_core/trainer.py",
        "        if len(broken):",
        "        if False:",
        "soak/test_extremes.py -k non_finite",
    ),
    "bytes": Fault(
        "betavae_core/trainer.py",
        '            "levels": dataset.levels,',
        '            "levels": dataset.levels, "now": time.time(),',
        "soak/test_determinism.py -k same_files",
    ),
    "repeats": Fault(
        "betavae_core/model.py",
        "        pixels = self.normalise(x)\n",
        "        pixels = self.normalise(x) + 1e-6 * torch.rand(())\n",
        "soak/test_determinism.py -k repeated",
    ),
    "environment": Fault(
        "betavae_core/trainer.py",
        "        if now != then:",
        "        if False:",
        "soak/test_determinism.py -k environment",
    ),
    "world": Fault(
        "tests/soak/rank.py",
        'x, eps = x[share], noise["eps"][share]',
        'x, eps = x[share], noise["eps"][: BATCH // world]',
        "soak/test_determinism.py -k two_processes_see",
    ),
    "one-writer": Fault(
        "betavae_core/run_directory.py",
        "            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "            pass",
        "soak/test_concurrency.py -k second",
    ),
    "reader": Fault(
        "betavae_core/run_directory.py",
        "        if read_latest(path) == latest:\n            raise\n        return read_ch",
        "        if read_latest(path) or latest:\n            raise\n        return read_ch",
        "soak/test_concurrency.py -k read",
    ),
    "log": Fault(
        "betavae_core/run_directory.py",
        "                log.truncate(length)",
        "                pass",
        "soak/test_concurrency.py -k torn",
    ),
    "memory": Fault(
        "betavae_core/trainer.py",
        '        self.directory.append("metrics.jsonl", row)',
        '        self.directory.append("metrics.jsonl", row)\n'
        '        self.__dict__.setdefault("leak", []).append(b"x" * 400_000)',
        "soak/test_long_runs.py -k flat",
    ),
    "log-size": Fault(
        "betavae_core/run_directory.py",
        '            file.write(json.dumps(row) + "\\n")',
        '            file.write(json.dumps(row) + " " * 400 + "\\n")',
        "soak/test_long_runs.py -k stated",
    ),
    "pace": Fault(
        "betavae_core/trainer.py",
        "        self.counter += 1\n",
        "        self.counter += 1\n        time.sleep(self.step * 3e-7)\n",
        "soak/test_long_runs.py -k slacken",
    ),
}


def test_there_is_a_fault_for_every_promise() -> None:
    assert list(FAULTS) == list(promises.PROMISES)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_still_fits_the_code(fault: Fault) -> None:
    assert (ROOT / fault.file).read_text(encoding="utf-8").count(fault.before) == 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_seen(fault: Fault, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
    done = outcome(fault, tree, fault.before)
    assert done.returncode == 0, done.stdout[-2000:]
    done = outcome(fault, tree, fault.after)
    assert done.returncode == 1, done.stdout[-2000:]


def outcome(fault: Fault, tree: Path, text: str) -> subprocess.CompletedProcess[str]:
    """The tests that must see it, run in `tree` with `text` in its place."""
    source = (ROOT / fault.file).read_text(encoding="utf-8")
    (tree / fault.file).write_text(source.replace(fault.before, text), encoding="utf-8")
    command = f"{sys.executable} -m pytest -n 0 -x tests/{fault.tests}"
    return subprocess.run(command, shell=True, cwd=tree, capture_output=True, text=True)
