"""Which processors the products of bfloat16 in C are for (bfloat16.c)."""

from __future__ import annotations

from functools import cache

from betavae_core.kernels.c import library


@cache
def compiled() -> bool:
    """Whether the kernels are there, for a processor that multiplies vectors of bfloat16."""
    return not library.obstacle() and library.library().bfloat16_units() > 0


@cache
def preferred() -> bool:
    """Whether nothing is faster: the processor does not multiply matrices of bfloat16 as well."""
    return compiled() and library.library().bfloat16_units() == 1
