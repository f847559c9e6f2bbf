"""The losses of InfoGAN, in nats and means over the batch.

A generator G makes images of a code c and of noise; a discriminator D says real or not, and Q says
what the code was. With probabilities σ(l) of "real":

    D    E_real[-ln σ(l)] + E_fake[-ln(1 - σ(l))]      2 ln 2 for a D that cannot tell
    G    E_fake[-ln σ(l)]                              non-saturating: strong where D is sure
    Q    E[-ln Q(c | G(z, c))]                         minimised by G and Q alike

The entropy of the code less the loss of Q is a lower bound on I(c; G(z, c)), the mutual information
between the code and the image.

Sources: Goodfellow et al. 2014, section 3 (both losses of the GAN); Chen et al. 2016, equations 4
and 5 (the bound), section 5 (a categorical code and Gaussian Q on continuous ones).
"""

from __future__ import annotations

from math import log, pi

import torch.nn.functional as F
from torch import Tensor


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-E ln σ(real) - E ln(1 - σ(fake)) of logits (B,)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """-E ln σ(fake) of logits (B,)."""
    return F.softplus(-fake).mean()


def category_nll(logits: Tensor, category: Tensor) -> Tensor:
    """-E ln softmax(logits)[category] for logits (B, K) and categories (B,)."""
    return F.cross_entropy(logits, category)


def continuous_nll(mean: Tensor, logvar: Tensor, code: Tensor) -> Tensor:
    """-E Σ_j ln N(code_j; mean_j, exp(logvar_j)), all (B, J):

    Σ_j [ (c - m)² exp(-v) + v + ln 2π ] / 2
    """
    terms = (code - mean).square() * (-logvar).exp() + logvar + log(2 * pi)
    return 0.5 * terms.sum(1).mean()


def code_entropy(categories: int, continuous: int) -> float:
    """Entropy of one uniform category of K and J uniform codes on [-1, 1]: ln K + J ln 2."""
    return log(categories) + continuous * log(2)
