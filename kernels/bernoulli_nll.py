"""-log p(x | l) of Bernoulli pixels, straight from logits and bytes.

    t = x / levels        nll[b] = Σ_p max(l, 0) - l·t + log(1 + exp(-|l|))   (nats)
    dl = g[b] · (sigmoid(l) - t)

max(l, 0) - l·t is computed as |l| times the weight of the wrong side (1 - t for l >= 0, t below), a
sum of terms that are never negative; where that weight is 0 the product is 0, so a certain and
right pixel (l = ±inf) costs 0.

The backward pass reads logits and x again. With float32 logits and bytes the two passes move
5 + 9 = 14 bytes a pixel; a forward pass that stored the gradient (to be scaled by g[b], not known
yet) would move 9 + 8 = 17, and half of it in a pass that evaluation does not need.

Source: Kingma, Welling, "Auto-encoding variational Bayes" (ICLR 2014), appendix C.1.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from betavae_core.kernels.launch import launch
from betavae_core.kernels.pixels import improbable, load_pixels, pixel_columns, pixel_tile, residual


@triton.jit
def log1p_unit(e):
    """log(1 + e) for 0 <= e <= 1, by e times a polynomial (minimax, relative error 4.7e-9)."""
    p = 0.019851454199963942 - e * 0.003244023365779588
    p = -0.05695951892936606 + e * p
    p = 0.10603653330496761 + e * p
    p = -0.153055916533025 + e * p
    p = 0.19675938938683946 + e * p
    p = -0.24954133593747274 + e * p
    p = 0.3332996241054585 + e * p
    p = -0.4999990242254806 + e * p
    return e * (0.9999999952872052 + e * p)


@triton.jit(do_not_specialize=["B", "levels"])
def bernoulli_nll_fwd_kernel(
    logits, x, nll, B, levels, logits_row, logits_col, x_row, x_col,
    P: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """nll (B,) of ROWS rows of logits (B,P) and x (B,P)."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    white = levels.to(tl.float32)
    scale = 1.0 / white
    sums = tl.zeros((ROWS, COLS), tl.float32)
    for start in range(0, P, COLS):
        cols = pixel_columns(logits, start, COLS)
        logit, grey = load_pixels(logits, x, rows, cols, B, P, logits_row, logits_col, x_row, x_col)
        wrong = tl.where(logit >= 0, white - grey, grey)
        distance = tl.where(wrong == 0, 0.0, tl.abs(logit))
        sums += distance * (wrong * scale) + log1p_unit(tl.exp(-tl.abs(logit)))
    tl.store(nll + rows, tl.sum(sums, 1), rows < B)


@triton.jit(do_not_specialize=["B", "levels"])
def bernoulli_nll_bwd_kernel(
    logits, x, dnll, dlogits, B, levels, logits_row, logits_col, x_row, x_col, dnll_stride,
    P: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """One tile of dlogits (B,P) a program; the grid is (row blocks, column blocks)."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    cols = pixel_columns(logits, tl.program_id(1) * COLS, COLS)
    logit, grey = load_pixels(logits, x, rows, cols, B, P, logits_row, logits_col, x_row, x_col)
    g = tl.load(dnll + rows * dnll_stride, rows < B, other=0.0).to(tl.float32)
    white = levels.to(tl.float32)
    dl = (g / white)[:, None] * residual(logit, grey, white, improbable(logit))
    inside = (rows < B)[:, None] & (cols < P)[None, :]
    tl.store(dlogits + rows[:, None] * P + cols[None, :], dl, inside)


def bernoulli_nll_fwd(logits: Tensor, x: Tensor, levels: int) -> Tensor:
    """nll (B,) float32 from logits (B,P) and x (B,P), uint8 or floating, both of any strides."""
    B, P = logits.shape
    rows, cols, warps = pixel_tile(P)
    nll = torch.empty(B, dtype=torch.float32, device=logits.device)
    launch(
        bernoulli_nll_fwd_kernel, (triton.cdiv(B, rows),),
        logits, x, nll, B, levels, *logits.stride(), *x.stride(),
        P=P, ROWS=rows, COLS=cols, num_warps=warps,
    )  # fmt: skip
    return nll


def bernoulli_nll_bwd(logits: Tensor, x: Tensor, levels: int, dnll: Tensor) -> Tensor:
    """dlogits (B,P) like logits, contiguous, from dnll (B,) of any stride."""
    B, P = logits.shape
    rows, cols, warps = pixel_tile(P)
    dlogits = torch.empty((B, P), dtype=logits.dtype, device=logits.device)
    launch(
        bernoulli_nll_bwd_kernel, (triton.cdiv(B, rows), triton.cdiv(P, cols)),
        logits, x, dnll, dlogits, B, levels,
        *logits.stride(), *x.stride(), dnll.stride(0),
        P=P, ROWS=rows, COLS=cols, num_warps=warps,
    )  # fmt: skip
    return dlogits
