"""The operations of a β-VAE step, in PyTorch, Triton and C, which draw the same noise.

`reparam_kl` samples the posterior and measures its KL; `bernoulli_nll` and `gaussian_nll` are the
likelihoods. Each file holds an op's plain PyTorch formula, its gradient, its registration with
`torch.library` and the choice between the formula and the fused kernels.
"""

from betavae_core.hardware import choose_vector_math
from betavae_core.ops.bernoulli_nll import bernoulli_nll
from betavae_core.ops.gaussian_nll import gaussian_nll
from betavae_core.ops.reparam_kl import LOGVAR_MAX, LOGVAR_MIN, ReparamKL, reparam_kl

__all__ = [
    "LOGVAR_MAX",
    "LOGVAR_MIN",
    "ReparamKL",
    "bernoulli_nll",
    "gaussian_nll",
    "reparam_kl",
]

choose_vector_math()
