"""What the two likelihoods share: the tile of pixels, and the distance of a pixel from its mean.

With e = exp(-|l|), which cannot overflow, q = e/(1 + e) is the probability of the side that the
logit l speaks against, and with t = x / levels

    sigmoid(l) - t = (1 - t) - q   for l >= 0
                   = q - t         for l < 0

and nothing cancels where t is 0 or 1. levels·t = x and levels·(1 - t) = levels - x are exact in
float32, so a target of exactly 0 or 1 stays so.
"""

import triton
import triton.language as tl

# A masked pixel is black (x = 0) and certainly predicted black: exp(-10⁴) is 0 in float32, so it
# adds exactly 0 to either likelihood; and 10⁴ fits float16.
PADDING_LOGIT = tl.constexpr(-1.0e4)


def pixel_tile(P: int) -> tuple[int, int, int]:
    """(rows, columns, warps) of a tile of 2048 or 4096 pixels, 16 a thread.

    A row of up to 4096 pixels is read at once; shorter rows share a tile. A function of P alone:
    how a row is added up, to the last bit, does not depend on the batch around it.
    """
    cols = min(triton.next_power_of_2(max(P, 1)), 4096)
    rows = max(2048 // cols, 1)
    return rows, cols, rows * cols // 512


@triton.jit
def pixel_columns(logits, start, COLS: tl.constexpr):
    """The columns start … start + COLS - 1 of a tile, to be read 16 bytes of logits a thread.

    Without this limit Triton would widen a thread's run to 16 bytes of x, that is 16 pixels: its
    logits would then be 64 bytes apart from its neighbour's, and the backward pass would turn
    them round through shared memory. As it is, a warp reads consecutive bytes of both.
    """
    cols = (start + tl.arange(0, COLS)).to(tl.int64)
    return tl.max_contiguous(cols, 128 // logits.dtype.element_ty.primitive_bitwidth)


@triton.jit
def load_pixels(logits, x, rows, cols, B, P, logits_row, logits_col, x_row, x_col):
    """The tile rows x cols of logits and of x, both as float32; padding outside (B,P)."""
    inside = (rows < B)[:, None] & (cols < P)[None, :]
    logits_at = logits + rows[:, None] * logits_row + cols[None, :] * logits_col
    x_at = x + rows[:, None] * x_row + cols[None, :] * x_col
    logit = tl.load(logits_at, inside, other=PADDING_LOGIT).to(tl.float32)
    return logit, tl.load(x_at, inside, other=0).to(tl.float32)


@triton.jit
def improbable(logit):
    """q = exp(-|logit|) / (1 + exp(-|logit|))."""
    e = tl.exp(-tl.abs(logit))
    return e / (1.0 + e)


@triton.jit
def residual(logit, x, levels, q):
    """levels · (sigmoid(logit) - x/levels), given q."""
    return tl.where(logit >= 0, (levels - x) - levels * q, levels * q - x)
