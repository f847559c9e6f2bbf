"""z = μ + σε and its KL from the prior in one read of μ and logvar; the noise is never stored.

    σ = exp(logvar/2)      z = μ + σε      kl[b,d] = (μ² + exp(logvar) - 1 - logvar) / 2
    kl_per_sample[b] = Σ_d kl[b,d]         kl_per_latent[d] = (1/B) Σ_b kl[b,d]

logvar is bounded to [LOGVAR_MIN, LOGVAR_MAX] first. In the forward pass a program owns a block of
rows, walks over the latents and leaves one row of partial sums over its rows, which a second
kernel adds in order. Where one block holds the batch (128 rows of 32 latents, say) its sum is the
answer and there is one launch. The backward pass draws the noise again, at no memory traffic, and
is elementwise:

    w = g_sample[b] + g_latent[d]/B        dμ = g_z + wμ
    dlogvar = 1[in bounds] · (g_z·ε·σ + w·(exp(logvar) - 1)) / 2

Source: Kingma, Welling, "Auto-encoding variational Bayes" (ICLR 2014), section 2.4 and appendix B.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from betavae_core.kernels.launch import launch
from betavae_core.kernels.philox import normal_tile

LOGVAR_MIN = tl.constexpr(-30.0)
LOGVAR_MAX = tl.constexpr(18.0)  # σ = e⁹ = 8103 times the largest normal 5.77 still fits float16


def latent_tile(D: int) -> tuple[int, int, int]:
    """(rows, groups of four latents, warps) of a tile of 4096 elements, 8 a thread.

    At most 256 latents wide, so that at least 16 rows share a row of partial sums: written and
    read, these add at most 4 % to the traffic in float32. A function of D alone: how a row is
    added up, to the last bit, does not depend on the batch around it.
    """
    groups = min(triton.next_power_of_2(triton.cdiv(max(D, 1), 4)), 64)
    return 1024 // groups, groups, 16


@triton.jit
def bounded(logvar):
    """logvar within its bounds; comparisons let NaN through, so training can name it."""
    above = tl.where(logvar < LOGVAR_MIN, LOGVAR_MIN, logvar)
    return tl.where(above > LOGVAR_MAX, LOGVAR_MAX, above)


@triton.jit
def exponential(x):
    """exp(x) = 2^n · exp(r) with r = x - n·ln 2, |r| <= 0.35.

    The GPU's exponential rounds x·log2(e) first, which costs up to 11 roundings at the bounds of
    logvar. Here ln 2 comes in two parts, and n times the first is exact (Cody, Waite 1980).
    """
    n = tl.floor(x * 1.4426950408889634 + 0.5)
    r = (x - n * 0.693359375) + n * 2.1219444005469057e-4
    return tl.exp2(n) * tl.exp(r)


@triton.jit
def exponential_tail(x):
    """exp(x) - 1 - x for |x| <= 1, by x² times a polynomial (minimax, relative error 4.3e-9)."""
    p = 2.5354829454111767e-05 + x * 2.7722833349335934e-06
    p = 0.00019844023629746578 + x * p
    p = 0.0013885451982031509 + x * p
    p = 0.008333310275201572 + x * p
    p = 0.041666734540788196 + x * p
    p = 0.16666667010064173 + x * p
    return x * x * (0.4999999979271797 + x * p)


@triton.jit
def latent_kl(mu, logvar, variance):
    """(μ² + exp(logvar) - 1 - logvar)/2, never negative: near 0 the difference would cancel."""
    far = (variance - 1.0) - logvar
    return 0.5 * (mu * mu + tl.where(tl.abs(logvar) < 1.0, exponential_tail(logvar), far))


@triton.jit(do_not_specialize=["B", "first_sample", "stream"])
def reparam_kl_fwd_kernel(
    mu, logvar, key, z, kl_per_sample, kl_per_latent,
    B, first_sample, stream, mu_row, mu_col, logvar_row, logvar_col,
    D: tl.constexpr, ONE_BLOCK: tl.constexpr, ROWS: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """A block of rows of z (B,D) and kl_per_sample (B,), and one row of kl_per_latent (blocks,D).

    With ONE_BLOCK that row is the mean over the batch, else the block's sum.
    """
    block = tl.program_id(0).to(tl.int64)
    rows = block * ROWS + tl.arange(0, ROWS)
    seed = tl.load(key)
    step = tl.load(key + 1)
    divisor = B.to(tl.float32) if ONE_BLOCK else 1.0
    row_sums = tl.zeros((ROWS,), tl.float32)
    for start in range(0, D, 4 * GROUPS):
        groups = start // 4 + tl.arange(0, GROUPS)
        cols = (start + tl.arange(0, 4 * GROUPS)).to(tl.int64)
        inside = (rows < B)[:, None] & (cols < D)[None, :]
        # Outside stands the prior, N(0, 1): its KL is exactly 0.
        m_at = mu + rows[:, None] * mu_row + cols[None, :] * mu_col
        v_at = logvar + rows[:, None] * logvar_row + cols[None, :] * logvar_col
        m = tl.load(m_at, inside, other=0.0).to(tl.float32)
        v = bounded(tl.load(v_at, inside, other=0.0).to(tl.float32))
        eps = normal_tile(seed, step, first_sample + rows, groups, stream, ROWS, GROUPS)
        sigma = exponential(0.5 * v)
        tl.store(z + rows[:, None] * D + cols[None, :], m + sigma * eps, inside)
        kl = latent_kl(m, v, sigma * sigma)
        row_sums += tl.sum(kl, 1)
        tl.store(kl_per_latent + block * D + cols, tl.sum(kl, 0) / divisor, cols < D)
    tl.store(kl_per_sample + rows, row_sums, rows < B)


@triton.jit(do_not_specialize=["blocks", "B"])
def reparam_kl_mean_kernel(
    partial_sums, kl_per_latent, blocks, B,
    D: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """kl_per_latent (D,) = the sum of partial_sums (blocks, D) over blocks, in order, over B."""
    cols = tl.program_id(0).to(tl.int64) * COLS + tl.arange(0, COLS)
    sums = tl.zeros((ROWS, COLS), tl.float32)
    rows = tl.arange(0, ROWS).to(tl.int64)
    start = 0
    while start < blocks:  # not range(): Triton 3.6 cannot interpret a bound that is an argument
        inside = (start + rows < blocks)[:, None] & (cols < D)[None, :]
        at = partial_sums + (start + rows)[:, None] * D + cols[None, :]
        sums += tl.load(at, inside, other=0.0)
        start += ROWS
    tl.store(kl_per_latent + cols, tl.sum(sums, 0) / B.to(tl.float32), cols < D)


@triton.jit(do_not_specialize=["B", "first_sample", "stream"])
def reparam_kl_bwd_kernel(
    mu, logvar, key, dz, dkl_per_sample, dkl_per_latent, dmu, dlogvar,
    B, first_sample, stream, mu_row, mu_col, logvar_row, logvar_col,
    dz_row, dz_col, dkl_per_sample_stride, dkl_per_latent_stride,
    D: tl.constexpr, ROWS: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """One tile of dmu (B,D) and dlogvar (B,D) a program, over (row blocks, column blocks)."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    groups = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    cols = tl.program_id(1).to(tl.int64) * (4 * GROUPS) + tl.arange(0, 4 * GROUPS)
    inside = (rows < B)[:, None] & (cols < D)[None, :]
    m_at = mu + rows[:, None] * mu_row + cols[None, :] * mu_col
    v_at = logvar + rows[:, None] * logvar_row + cols[None, :] * logvar_col
    g_at = dz + rows[:, None] * dz_row + cols[None, :] * dz_col
    m = tl.load(m_at, inside, other=0.0).to(tl.float32)
    raw = tl.load(v_at, inside, other=0.0).to(tl.float32)
    g = tl.load(g_at, inside, other=0.0).to(tl.float32)
    g_sample = tl.load(dkl_per_sample + rows * dkl_per_sample_stride, rows < B, other=0.0)
    g_latent = tl.load(dkl_per_latent + cols * dkl_per_latent_stride, cols < D, other=0.0)
    w = g_sample.to(tl.float32)[:, None] + (g_latent.to(tl.float32) / B.to(tl.float32))[None, :]
    seed = tl.load(key)
    step = tl.load(key + 1)
    eps = normal_tile(seed, step, first_sample + rows, groups, stream, ROWS, GROUPS)
    v = bounded(raw)
    sigma = exponential(0.5 * v)
    rise = tl.where(tl.abs(v) < 1.0, exponential_tail(v) + v, sigma * sigma - 1.0)  # exp(v) - 1
    slope = 0.5 * (g * eps * sigma + w * rise)
    out = rows[:, None] * D + cols[None, :]
    tl.store(dmu + out, g + w * m, inside)
    tl.store(dlogvar + out, tl.where((raw < LOGVAR_MIN) | (raw > LOGVAR_MAX), 0.0, slope), inside)


def reparam_kl_fwd(
    mu: Tensor, logvar: Tensor, key: Tensor, first_sample: int, stream: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(z (B,D) like mu, kl_per_sample (B,) float32, kl_per_latent (D,) float32), in nats.

    mu and logvar (B,D) have any strides; key is the int64 tensor [seed, step] on their device, so
    that a captured CUDA graph draws anew; row 0 is sample `first_sample` of the global batch. An
    empty batch has a kl_per_latent of zeros.
    """
    B, D = mu.shape
    rows, groups, warps = latent_tile(D)
    blocks = triton.cdiv(B, rows)
    one_block = blocks == 1
    z = torch.empty((B, D), dtype=mu.dtype, device=mu.device)
    kl_per_sample = torch.empty(B, dtype=torch.float32, device=mu.device)
    if B == 0:
        return z, kl_per_sample, torch.zeros(D, dtype=torch.float32, device=mu.device)
    sums_shape = (D,) if one_block else (blocks, D)
    sums = torch.empty(sums_shape, dtype=torch.float32, device=mu.device)
    launch(
        reparam_kl_fwd_kernel, (blocks,),
        mu, logvar, key, z, kl_per_sample, sums,
        B, first_sample, stream, *mu.stride(), *logvar.stride(),
        D=D, ONE_BLOCK=one_block, ROWS=rows, GROUPS=groups, num_warps=warps,
    )  # fmt: skip
    return z, kl_per_sample, sums if one_block else _mean(sums, B)


def _mean(partial_sums: Tensor, B: int) -> Tensor:
    """(blocks, D) sums over the rows of each block -> (D,) means over the batch."""
    blocks, D = partial_sums.shape
    rows, groups, warps = latent_tile(D)
    means = torch.empty(D, dtype=torch.float32, device=partial_sums.device)
    grid = (triton.cdiv(D, 4 * groups),)
    tile = {"D": D, "ROWS": rows, "COLS": 4 * groups, "num_warps": warps}
    launch(reparam_kl_mean_kernel, grid, partial_sums, means, blocks, B, **tile)
    return means


def reparam_kl_bwd(
    mu: Tensor, logvar: Tensor, key: Tensor, first_sample: int, stream: int,
    dz: Tensor, dkl_per_sample: Tensor, dkl_per_latent: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(dmu, dlogvar), both (B,D) like mu, from the gradients of the three results, of any strides.

    dlogvar is 0 where logvar is out of bounds (infinite included) and NaN where it is NaN.
    """
    B, D = mu.shape
    rows, groups, warps = latent_tile(D)
    dmu = torch.empty((B, D), dtype=mu.dtype, device=mu.device)
    dlogvar = torch.empty((B, D), dtype=mu.dtype, device=mu.device)
    launch(
        reparam_kl_bwd_kernel, (triton.cdiv(B, rows), triton.cdiv(D, 4 * groups)),
        mu, logvar, key, dz, dkl_per_sample, dkl_per_latent, dmu, dlogvar,
        B, first_sample, stream, *mu.stride(), *logvar.stride(), *dz.stride(),
        dkl_per_sample.stride(0), dkl_per_latent.stride(0),
        D=D, ROWS=rows, GROUPS=groups, num_warps=warps,
    )  # fmt: skip
    return dmu, dlogvar
