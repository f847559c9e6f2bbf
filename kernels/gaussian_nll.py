"""-log p(x | l) of Gaussian pixels with mean sigmoid(l) and a fixed σ, straight from logits.

    t = x / levels        r = (sigmoid(l) - t) / σ        (nats)
    nll[b] = Σ_p r²/2 + ln σ + ln(2π)/2        dl = g[b] · r/σ · sigmoid(l)(1 - sigmoid(l))

The difference is formed without cancellation (pixels.py), and with q = sigmoid(-|l|) the slope of
the sigmoid is q (1 - q) on both sides. The constant is added once a row, not once a pixel. The
backward pass reads again rather than store the gradient, for the reason in bernoulli_nll.py.

Source: Kingma, Welling, "Auto-encoding variational Bayes" (ICLR 2014), appendix C.2.
"""

from math import log, pi

import torch
import triton
import triton.language as tl
from torch import Tensor

from betavae_core.kernels.launch import launch
from betavae_core.kernels.pixels import improbable, load_pixels, pixel_columns, pixel_tile, residual


@triton.jit(do_not_specialize=["B", "levels"])
def gaussian_nll_fwd_kernel(
    logits, x, nll, B, levels, precision, constant, logits_row, logits_col, x_row, x_col,
    P: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """nll (B,) of ROWS rows of logits (B,P) and x (B,P); precision is 1/σ, constant a row's."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    white = levels.to(tl.float32)
    scale = precision / white
    sums = tl.zeros((ROWS, COLS), tl.float32)
    for start in range(0, P, COLS):
        cols = pixel_columns(logits, start, COLS)
        logit, grey = load_pixels(logits, x, rows, cols, B, P, logits_row, logits_col, x_row, x_col)
        r = scale * residual(logit, grey, white, improbable(logit))
        sums += r * r
    tl.store(nll + rows, 0.5 * tl.sum(sums, 1) + constant, rows < B)


@triton.jit(do_not_specialize=["B", "levels"])
def gaussian_nll_bwd_kernel(
    logits, x, dnll, dlogits, B, levels, precision, logits_row, logits_col, x_row, x_col,
    dnll_stride, P: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """One tile of dlogits (B,P) a program; the grid is (row blocks, column blocks)."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    cols = pixel_columns(logits, tl.program_id(1) * COLS, COLS)
    logit, grey = load_pixels(logits, x, rows, cols, B, P, logits_row, logits_col, x_row, x_col)
    g = tl.load(dnll + rows * dnll_stride, rows < B, other=0.0).to(tl.float32)
    white = levels.to(tl.float32)
    q = improbable(logit)
    r = precision / white * residual(logit, grey, white, q)
    dl = (g * precision)[:, None] * r * (q - q * q)
    inside = (rows < B)[:, None] & (cols < P)[None, :]
    tl.store(dlogits + rows[:, None] * P + cols[None, :], dl, inside)


def gaussian_nll_fwd(logits: Tensor, x: Tensor, levels: int, sigma: float) -> Tensor:
    """nll (B,) float32 from logits (B,P) and x (B,P), uint8 or floating, both of any strides."""
    B, P = logits.shape
    rows, cols, warps = pixel_tile(P)
    nll = torch.empty(B, dtype=torch.float32, device=logits.device)
    constant = P * (log(sigma) + log(2 * pi) / 2)
    launch(
        gaussian_nll_fwd_kernel, (triton.cdiv(B, rows),),
        logits, x, nll, B, levels, 1.0 / sigma, constant, *logits.stride(), *x.stride(),
        P=P, ROWS=rows, COLS=cols, num_warps=warps,
    )  # fmt: skip
    return nll


def gaussian_nll_bwd(logits: Tensor, x: Tensor, levels: int, sigma: float, dnll: Tensor) -> Tensor:
    """dlogits (B,P) like logits, contiguous, from dnll (B,) of any stride."""
    B, P = logits.shape
    rows, cols, warps = pixel_tile(P)
    dlogits = torch.empty((B, P), dtype=logits.dtype, device=logits.device)
    launch(
        gaussian_nll_bwd_kernel, (triton.cdiv(B, rows), triton.cdiv(P, cols)),
        logits, x, dnll, dlogits, B, levels, 1.0 / sigma,
        *logits.stride(), *x.stride(), dnll.stride(0),
        P=P, ROWS=rows, COLS=cols, num_warps=warps,
    )  # fmt: skip
    return dlogits
