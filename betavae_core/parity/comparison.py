"""One value of the production path beside the oracle's, and how far apart they may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from betavae_core.reference.checks import relative_error

# The largest error by dtype. float64 differs only in the order of its sums. float32 rounds each
# operation to 6e-8, and a sum over a few hundred terms grows that about a hundredfold; a whole
# network tenfold more, most where a bias's gradient sums thousands of pixels that nearly cancel.
# The half formats round their inputs and outputs, to 2^-9 and 2^-12.
TOLERANCE = {
    torch.float64: 1e-10,
    torch.float32: 1e-5,
    torch.bfloat16: 8e-3,
    torch.float16: 1e-3,
    torch.int64: 0.0,
}
NETWORK_TOLERANCE = TOLERANCE | {torch.float32: 1e-4}


@dataclass(frozen=True)
class Comparison:
    """`got` from production, `expected` from the oracle, and how far apart they may be.

    `tolerance` is given where it is not the dtype's, `absolute` where the error is not relative.
    """

    name: str
    dtype: torch.dtype
    got: Tensor | None
    expected: ArrayLike
    tolerance: float | None = None
    absolute: bool = False

    def row(self) -> dict[str, Any]:
        """The comparison as `check` reports it."""
        tolerance = TOLERANCE[self.dtype] if self.tolerance is None else self.tolerance
        error = self._error()
        return {
            "name": self.name,
            "dtype": str(self.dtype).removeprefix("torch."),
            "error": error,
            "tolerance": tolerance,
            "ok": error <= tolerance,
        }

    def _error(self) -> float:
        wide = torch.int64 if self.dtype == torch.int64 else torch.float64
        got = None if self.got is None else self.got.detach().to("cpu", wide).numpy()
        error = relative_error(got, self.expected)
        if self.absolute:
            return error * float(np.abs(self.expected).max(initial=1e-12))
        return error
