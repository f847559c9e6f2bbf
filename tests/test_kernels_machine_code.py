"""The kernels' machine code, compiled ahead for sm_80 and sm_90 without a GPU.

Each kernel is compiled as its launcher would for large contiguous tensors (addresses and row
strides divisible by 16), and read: its data moves 16 bytes at a time, nothing lives in local
memory, registers stay in budget, and one Philox counter serves four latents.
"""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from betavae_core.kernels import bernoulli_nll, gaussian_nll, reparam_kl  # noqa: E402
from betavae_core.kernels.pixels import pixel_tile  # noqa: E402

CUOBJDUMP = triton.knobs.nvidia.cuobjdump
if CUOBJDUMP is None or not Path(CUOBJDUMP.path).exists():
    pytest.skip("this Triton brings no cuobjdump to read machine code", allow_module_level=True)

D, P = 64, 4096  # a latent space and an image whose rows are whole tiles
ROWS, GROUPS, WARPS = reparam_kl.latent_tile(D)
PIXEL_ROWS, COLS, PIXEL_WARPS = pixel_tile(P)
PIXEL_TILE = {"P": P, "ROWS": PIXEL_ROWS, "COLS": COLS}
PIXELS = PIXEL_ROWS * COLS

# kernel, its constants, (elements a tile, tiles loaded, tiles stored, warps, register budget).
# The budget is what was measured (Triton 3.6 and 3.9, both targets, all dtypes), rounded up to the
# steps of 8 in which a GPU hands registers out.
KERNELS = {
    "reparam_kl_fwd": (
        reparam_kl.reparam_kl_fwd_kernel,
        {"D": D, "ONE_BLOCK": False, "ROWS": ROWS, "GROUPS": GROUPS},
        (ROWS * D, 2, 1, WARPS, 56),
    ),
    "sum_rows": (
        reparam_kl.sum_rows_kernel,
        {"D": D, "ROWS": ROWS, "COLS": 4 * GROUPS},
        (ROWS * D, 1, 0, WARPS, 24),
    ),
    "reparam_kl_bwd": (
        reparam_kl.reparam_kl_bwd_kernel,
        {"D": D, "ROWS": ROWS, "GROUPS": GROUPS},
        (ROWS * D, 3, 2, WARPS, 64),
    ),
    "bernoulli_nll_fwd": (
        bernoulli_nll.bernoulli_nll_fwd_kernel, PIXEL_TILE, (PIXELS, 1, 0, PIXEL_WARPS, 40)
    ),
    "bernoulli_nll_bwd": (
        bernoulli_nll.bernoulli_nll_bwd_kernel, PIXEL_TILE, (PIXELS, 1, 1, PIXEL_WARPS, 48)
    ),
    "gaussian_nll_fwd": (
        gaussian_nll.gaussian_nll_fwd_kernel, PIXEL_TILE, (PIXELS, 1, 0, PIXEL_WARPS, 40)
    ),
    "gaussian_nll_bwd": (
        gaussian_nll.gaussian_nll_bwd_kernel, PIXEL_TILE, (PIXELS, 1, 1, PIXEL_WARPS, 64)
    ),
}  # fmt: skip
FLOAT_POINTERS = {"mu", "logvar", "z", "dz", "dmu", "dlogvar", "logits", "dlogits"}
SUM_POINTERS = {
    *("kl_per_sample", "kl_per_latent", "terms", "sums", "nll"),
    *("dkl_per_sample", "dkl_per_latent", "dnll"),
}
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}

every_kernel = pytest.mark.parametrize("name", KERNELS)
every_dtype = pytest.mark.parametrize("dtype", BYTES)
every_target = pytest.mark.parametrize("capability", [80, 90])


def argument_type(name: str, dtype: str) -> str:
    if name in FLOAT_POINTERS:
        return f"*{dtype}"
    if name in SUM_POINTERS:
        return "*fp32"
    special = {"key": "*i64", "x": "*u8", "first_sample": "i64", "precision": "fp32"}
    return {**special, "constant": "fp32"}.get(name, "i32")


@cache
def compiled(name: str, dtype: str, capability: int) -> Any:
    """The kernel as Triton would compile it at a launch: unit strides are constants."""
    kernel, constants, (_, _, _, warps, _) = KERNELS[name]
    names = kernel.arg_names
    unit = {n: 1 for n in names if n.endswith(("_col", "_stride"))}
    constants = {**constants, **unit}
    signature = {n: "constexpr" if n in constants else argument_type(n, dtype) for n in names}
    divisible = [n for n in names if signature[n].startswith("*") or n.endswith("_row")]
    source = ASTSource(
        kernel,
        signature,
        constexprs={(names.index(n),): value for n, value in constants.items()},
        attrs={(names.index(n),): [["tt.divisibility", 16]] for n in divisible},
    )
    options = {"num_warps": warps, "enable_fp_fusion": True}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def instructions(code: Any) -> list[str]:
    """The opcodes of the SASS, `LDG.E.128` and so on, without padding."""
    found = re.findall(r"^[-:\w]*\t(?:@!?U?P\w+ )?([A-Z][A-Z0-9_.]+)", code.asm["sass"], re.M)
    assert len(found) > 50, "the disassembly has another format: mend the pattern"
    return [opcode for opcode in found if opcode != "NOP"]


def resources(code: Any, folder: Path) -> dict[str, int]:
    """REG, STACK, LOCAL and so on, as cuobjdump counts them."""
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(code.asm["cubin"])
    command = [CUOBJDUMP.path, "-res-usage", str(cubin)]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", report)}


@every_target
@every_dtype
@every_kernel
def test_all_data_moves_sixteen_bytes_at_a_time(name: str, dtype: str, capability: int) -> None:
    code = compiled(name, dtype, capability)
    elements, loaded, stored, warps, _ = KERNELS[name][2]
    pieces = elements * BYTES[dtype] // (16 * 32 * warps)  # a thread's share of a tile
    ptx, opcodes = code.asm["ptx"], instructions(code)
    assert len(re.findall(r"ld\.global\S*\.v4\.b32", ptx)) >= loaded * pieces
    assert len(re.findall(r"st\.global\S*\.v4\.b32", ptx)) == stored * pieces
    assert opcodes.count("LDG.E.128") >= loaded * pieces
    assert opcodes.count("STG.E.128") == stored * pieces


@every_target
@every_dtype
@every_kernel
def test_nothing_spills_and_registers_are_in_budget(
    name: str, dtype: str, capability: int, tmp_path: Path
) -> None:
    code = compiled(name, dtype, capability)
    used, opcodes = resources(code, tmp_path), instructions(code)
    assert (used["STACK"], used["LOCAL"]) == (0, 0)
    assert not [o for o in opcodes if o.startswith(("LDL", "STL", "CALL"))]
    assert used["REG"] <= KERNELS[name][2][4]


@every_target
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["reparam_kl_fwd", "reparam_kl_bwd"])
def test_one_counter_serves_four_latents(name: str, dtype: str, capability: int) -> None:
    code = compiled(name, dtype, capability)
    elements, _, _, warps, _ = KERNELS[name][2]
    counters = elements // 4 // (32 * warps)
    high_products = re.findall(r"mul\.(?:hi|wide)\.u32", code.asm["ptx"])
    assert len(high_products) <= 20 * counters + 8  # ten rounds of two, and a few for addresses
    assert instructions(code).count("MUFU.SQRT") == 2 * counters
    assert len(instructions(code)) <= 100 * elements // (32 * warps)


@every_target
@every_dtype
@pytest.mark.parametrize("name", [name for name in KERNELS if name.endswith("_bwd")])
def test_a_thread_keeps_its_elements(name: str, dtype: str, capability: int) -> None:
    """Backward passes are elementwise: the four lanes of a counter, and the bytes of x beside
    their logits, are read, used and written by one thread and cross no shared memory.
    """
    code = compiled(name, dtype, capability)
    assert code.metadata.shared == 0
    assert not [o for o in instructions(code) if o.startswith(("BAR", "STS", "LDS", "SHFL"))]


@every_target
def test_the_partial_sums_are_added_without_atomics(capability: int) -> None:
    opcodes = instructions(compiled("reparam_kl_fwd", "fp32", capability))
    assert not [o for o in opcodes if o.startswith(("ATOM", "RED."))]


@pytest.mark.parametrize("name", ["reparam_kl_fwd", "reparam_kl_bwd"])
def test_the_key_is_loaded_from_memory(name: str) -> None:
    """No seed or step is an argument, so none can be frozen in a captured graph."""
    kernel = KERNELS[name][0]
    assert not {"seed", "step"} & set(kernel.arg_names)
    position = kernel.arg_names.index("key")
    ptx = compiled(name, "fp32", 90).asm["ptx"]
    (register,) = re.findall(rf"ld\.param\.b64\s+(%rd\d+), \[\w+_param_{position}\]", ptx)
    assert re.search(rf"ld\.global\.b64[^;]*\[\s*{register}\s*\+\s*0\s*\]", ptx)
