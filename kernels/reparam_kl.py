"""z = μ + σε and its KL from the prior in one read of μ and logvar; the noise is never stored.

    σ = exp(logvar/2)      z = μ + σε      kl[b,d] = (μ² + exp(logvar) - 1 - logvar) / 2
    kl_per_sample[b] = Σ_d kl[b,d]         kl_per_latent[d] = (1/B) Σ_b kl[b,d]

logvar is bounded to [LOGVAR_MIN, LOGVAR_MAX] first. In the forward pass a program owns a block of
rows, walks over the latents and leaves one row of partial sums over its rows, which a second
kernel adds as a tree, 128 rows of 32 latents to one. Where one block holds the batch its sum is
the answer and there is one launch. The backward pass draws the noise again, at no memory traffic,
and is elementwise:

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
def scale_and_rises(v):
    """exp(v/2), exp(v) - 1 and exp(v) - 1 - v for |v| < 100; near 0 no difference cancels.

    exp(v/2) = 2^n (1 + q) with q = exp(r/2) - 1, where r = v - 2n ln 2 is at most ln 2 and 2 ln 2
    comes in two parts (Cody, Waite 1980); t = q - r/2 is r^2 times a polynomial (minimax for
    exp(r/2), relative error 3.1e-9). Where n is 0, exp(v) - 1 = q^2 + 2q and exp(v) - 1 - v =
    q^2 + 2t. Adding 1.5 2^23 + 127 leaves the exponent of 2^n in the lowest bits.
    """
    shifted = v * 0.7213475204444817 + 12583039.0
    n = shifted - 12583039.0
    r = (v - n * 1.38671875) + n * 4.2438888010938114e-4
    p = 2.6152240486421910e-4 + r * 2.1585310315155202e-5
    p = 2.6042742532445640e-3 + r * p
    p = 2.0833150788848086e-2 + r * p
    p = 1.2499998361937859e-1 + r * p
    t = r * r * p
    q = 0.5 * r + t
    power = (shifted.to(tl.uint32, bitcast=True) << 23).to(tl.float32, bitcast=True)
    sigma = power + power * q
    rise = sigma * sigma - 1.0
    near = n == 0.0
    return sigma, tl.where(near, q * q + 2.0 * q, rise), tl.where(near, q * q + 2.0 * t, rise - v)


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
    divisor = 2.0 * B.to(tl.float32) if ONE_BLOCK else 2.0
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
        sigma, _, excess = scale_and_rises(v)
        tl.store(z + rows[:, None] * D + cols[None, :], m + sigma * eps, inside)
        twice_kl = m * m + excess
        row_sums += tl.sum(twice_kl, 1)
        tl.store(kl_per_latent + block * D + cols, tl.sum(twice_kl, 0) / divisor, cols < D)
    tl.store(kl_per_sample + rows, 0.5 * row_sums, rows < B)


@triton.jit(do_not_specialize=["R", "divisor"])
def sum_rows_kernel(
    terms, sums, R, divisor, D: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """sums (blocks,D) = the sum of each ROWS rows of terms (R,D), over divisor."""
    block = tl.program_id(0).to(tl.int64)
    rows = block * ROWS + tl.arange(0, ROWS)
    cols = tl.program_id(1).to(tl.int64) * COLS + tl.arange(0, COLS)
    inside = (rows < R)[:, None] & (cols < D)[None, :]
    tile = tl.load(terms + rows[:, None] * D + cols[None, :], inside, other=0.0)
    tl.store(sums + block * D + cols, tl.sum(tile, 0) / divisor.to(tl.float32), cols < D)


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
    sigma, rise, _ = scale_and_rises(bounded(raw))
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
    z = torch.empty((B, D), dtype=mu.dtype, device=mu.device)
    kl_per_sample = torch.empty(B, dtype=torch.float32, device=mu.device)
    if B == 0:
        return z, kl_per_sample, torch.zeros(D, dtype=torch.float32, device=mu.device)
    sums = torch.empty((blocks, D), dtype=torch.float32, device=mu.device)
    launch(
        reparam_kl_fwd_kernel, (blocks,),
        mu, logvar, key, z, kl_per_sample, sums,
        B, first_sample, stream, *mu.stride(), *logvar.stride(),
        D=D, ONE_BLOCK=blocks == 1, ROWS=rows, GROUPS=groups, num_warps=warps,
    )  # fmt: skip
    return z, kl_per_sample, _mean(sums, B)


def _mean(sums: Tensor, B: int) -> Tensor:
    """(blocks, D) sums over the rows of each block, or one row of means -> (D,) means over B."""
    D = sums.shape[1]
    rows, groups, warps = latent_tile(D)
    tile = {"D": D, "ROWS": rows, "COLS": 4 * groups, "num_warps": warps}
    while len(sums) > 1:
        terms, blocks = sums, triton.cdiv(len(sums), rows)
        sums = terms.new_empty((blocks, D))
        grid = blocks, triton.cdiv(D, 4 * groups)
        launch(sum_rows_kernel, grid, terms, sums, len(terms), B if blocks == 1 else 1, **tile)
    return sums[0]


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
