"""The layers of every network here, each with its backward pass, built from a specification.

A layer keeps what its last `forward` saw; `backward(dy)` returns dx and adds the gradients of the
parameters to `grads`. Parameters have torch's shapes and start at zero: `Sequential.load` fills
them. The backward passes state their derivation with y the output, dy = ∂L/∂y, and so on.

Everything about convolution follows from one linear map and its two derivatives (`correlate`,
`correlate_adjoint`, `correlate_weight_gradient`): Conv2d runs the map forwards, ConvTranspose2d
runs its adjoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Size = tuple[int, ...]  # height, width
Specification = Sequence[tuple[str | int, ...]]


class Layer:
    """A differentiable function with named parameters (or none) and the sums of their gradients."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        self.parameters = {name: np.zeros(shape) for name, shape in shapes.items()}
        self.grads = {name: np.zeros(shape) for name, shape in shapes.items()}

    def forward(self, x: Array) -> Array:
        """The output y."""
        raise NotImplementedError

    def backward(self, dy: Array) -> Array:
        """dx from dy, at the x of the last `forward`; adds to `grads`."""
        raise NotImplementedError


class Linear(Layer):
    """y = x Wᵀ + b, for x (B, I), W (O, I), b (O,)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(weight=(n_out, n_in), bias=(n_out,))

    def forward(self, x: Array) -> Array:
        self.x = x
        return x @ self.parameters["weight"].T + self.parameters["bias"]

    def backward(self, dy: Array) -> Array:
        """y[b, o] = Σ_i x[b, i]·W[o, i] + b[o], so

        dx[b, i] = Σ_o dy[b, o]·W[o, i]     dW[o, i] = Σ_b dy[b, o]·x[b, i]     db[o] = Σ_b dy[b, o]
        """
        self.grads["weight"] += dy.T @ self.x
        self.grads["bias"] += dy.sum(axis=0)
        return dy @ self.parameters["weight"]


class Conv2d(Layer):
    """y = correlate(x, W) + b, for images x of I channels, W (O, I, k, k), b (O,)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__(weight=(c_out, c_in, kernel, kernel), bias=(c_out,))
        self.stride, self.padding = stride, padding

    def forward(self, x: Array) -> Array:
        self.x = x
        y = correlate(x, self.parameters["weight"], self.stride, self.padding)
        return y + self.parameters["bias"][:, None, None]

    def backward(self, dy: Array) -> Array:
        """With A_W the linear map x -> correlate(x, W), and <·, ·> the sum of products,

            δL = <dy, A_W δx> + <dy, A_δW x> + <dy, δb>
               = <A_Wᵀ dy, δx> + <dW, δW> + <db, δb>

        so dx = correlate_adjoint(dy, W), dW = correlate_weight_gradient(x, dy), and
        db[o] = Σ_{b,h,w} dy[b, o, h, w].
        """
        w = self.parameters["weight"]
        k = w.shape[-1]
        self.grads["weight"] += correlate_weight_gradient(self.x, dy, k, self.stride, self.padding)
        self.grads["bias"] += dy.sum(axis=(0, 2, 3))
        return correlate_adjoint(dy, w, self.x.shape[2:], self.stride, self.padding)


class ConvTranspose2d(Layer):
    """y = correlate_adjoint(x, W) + b, for x (B, I, h, w), W (I, O, k, k), b (O,).

    The adjoint of the convolution of weight W, from O channels to I: hence W has its input
    channels first. The output has (h - 1)·stride - 2·padding + k rows, the fewest that such a
    convolution takes to h.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__(weight=(c_in, c_out, kernel, kernel), bias=(c_out,))
        self.stride, self.padding = stride, padding

    def forward(self, x: Array) -> Array:
        self.x = x
        w = self.parameters["weight"]
        size = tuple((n - 1) * self.stride - 2 * self.padding + w.shape[-1] for n in x.shape[2:])
        y = correlate_adjoint(x, w, size, self.stride, self.padding)
        return y + self.parameters["bias"][:, None, None]

    def backward(self, dy: Array) -> Array:
        """With A_W the linear map y -> correlate(y, W), whose adjoint A_Wᵀ runs forwards here,

            δL = <dy, A_Wᵀ δx> + <dy, A_δWᵀ x> + <dy, δb>
               = <A_W dy, δx>  + <A_δW dy, x>  + <db, δb>

        so dx = correlate(dy, W), and dW is that of a Conv2d which sees the image dy and the
        upstream gradient x. db[o] = Σ_{b,h,w} dy[b, o, h, w].
        """
        w = self.parameters["weight"]
        k = w.shape[-1]
        self.grads["weight"] += correlate_weight_gradient(dy, self.x, k, self.stride, self.padding)
        self.grads["bias"] += dy.sum(axis=(0, 2, 3))
        return correlate(dy, w, self.stride, self.padding)


class ReLU(Layer):
    """y = max(x, 0)."""

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.maximum(x, 0)

    def backward(self, dy: Array) -> Array:
        """dy/dx is 1 for x > 0 and 0 for x < 0; at the kink 0 is taken: dx = dy·1[x > 0]."""
        return dy * (self.x > 0)


class Tanh(Layer):
    """y = tanh(x)."""

    def forward(self, x: Array) -> Array:
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy: Array) -> Array:
        """tanh' = 1 - tanh², so dx = dy·(1 - y²)."""
        return dy * (1 - self.y**2)


class Reshape(Layer):
    """y is x with the axes after the first in another shape; the numbers keep their order."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Array) -> Array:
        self.x_shape = x.shape
        return x.reshape(len(x), *self.shape)

    def backward(self, dy: Array) -> Array:
        """Each y is one x, so dx is dy in the shape of x."""
        return dy.reshape(self.x_shape)


class Flatten(Reshape):
    """(B, C, H, W) to (B, C·H·W)."""

    def forward(self, x: Array) -> Array:
        self.shape = (prod(x.shape[1:]),)
        return super().forward(x)


LAYERS: dict[str, type[Layer]] = {
    "linear": Linear,
    "conv": Conv2d,
    "conv_transpose": ConvTranspose2d,
    "relu": ReLU,
    "tanh": Tanh,
    "flatten": Flatten,
    "reshape": Reshape,
}


class Sequential:
    """The layers of a specification, one after another.

    A specification is a sequence of tuples: ("linear", n_in, n_out), ("conv" or "conv_transpose",
    c_in, c_out, kernel, stride, padding), ("relu",), ("tanh",), ("flatten",), ("reshape", C, H,
    W). Parameters are named by position: "0.weight", "0.bias", "2.weight", … Raises ValueError
    for a layer it does not know.
    """

    def __init__(self, specification: Specification) -> None:
        self.layers = [_build(*entry) for entry in specification]

    def forward(self, x: Array) -> Array:
        """Each layer's output is the next one's input."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy: Array) -> Array:
        """The chain rule, from the last layer y = f(x) to the first: dx = (∂f/∂x)ᵀ dy."""
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy

    @property
    def parameters(self) -> dict[str, Array]:
        """The layers' own arrays under "position.name": writing into one changes the network."""
        return {f"{i}.{n}": p for i, f in enumerate(self.layers) for n, p in f.parameters.items()}

    @property
    def grads(self) -> dict[str, Array]:
        """The gradients summed since the last `zero_grads`, named as `parameters`."""
        return {f"{i}.{n}": g for i, f in enumerate(self.layers) for n, g in f.grads.items()}

    def zero_grads(self) -> None:
        """Start the sums of `grads` again, in arrays of their own."""
        for layer in self.layers:
            layer.grads = {name: np.zeros_like(p) for name, p in layer.parameters.items()}

    def load(self, weights: Mapping[str, ArrayLike], prefix: str = "") -> None:
        """Copy weights[prefix + name] into every parameter (`prefix` with its dot: "encoder.").

        Raises ValueError unless these are all the names with the prefix, and of these shapes.
        """
        parameters = {prefix + name: p for name, p in self.parameters.items()}
        given = {name for name in weights if name.startswith(prefix)}
        if odd := sorted(given ^ parameters.keys()):
            raise ValueError(f"the weights must be the specification's, missing or unknown: {odd}")
        for name, p in parameters.items():
            w = np.asarray(weights[name], dtype=np.float64)
            if w.shape != p.shape:
                raise ValueError(f"{name} must be {p.shape}, got {w.shape}")
            p[...] = w


def correlate(x: Array, w: Array, stride: int, padding: int) -> Array:
    """The convolution of the networks (a cross-correlation), linear in x and in w:

        y[b, o, i, j] = Σ_{c,p,q} w[o, c, p, q]·x̄[b, c, stride·i + p, stride·j + q]

    x (B, C, H, W), x̄ its copy with `padding` zeros on every side, w (O, C, k, k);
    y (B, O, h, w) with h = (H + 2·padding - k)//stride + 1.
    """
    y = np.tensordot(_unfold(x, w.shape[-1], stride, padding), w, axes=((1, 2, 3), (1, 2, 3)))
    return y.transpose(0, 3, 1, 2)


def correlate_adjoint(y: Array, w: Array, size: Size, stride: int, padding: int) -> Array:
    """The adjoint of `correlate` in x: <correlate(x, w), y> = <x, correlate_adjoint(y, w)>.

    Collecting the coefficient of each x̄ in <correlate(x, w), y>,

        x̄[b, c, stride·i + p, stride·j + q] += Σ_o w[o, c, p, q]·y[b, o, i, j]   for all i, j, p, q,

    and dropping the padding. y (B, O, h, w), w (O, C, k, k); the result is (B, C, *size).
    """
    patches = np.tensordot(w, y, axes=(0, 1)).transpose(3, 0, 1, 2, 4, 5)
    return _fold(patches, size, stride, padding)


def correlate_weight_gradient(x: Array, dy: Array, kernel: int, stride: int, padding: int) -> Array:
    """The coefficient of w[o, c, p, q] in <dy, correlate(x, w)>, (O, C, k, k):

    dw[o, c, p, q] = Σ_{b,i,j} dy[b, o, i, j]·x̄[b, c, stride·i + p, stride·j + q]
    """
    patches = _unfold(x, kernel, stride, padding)
    return np.tensordot(dy, patches, axes=((0, 2, 3), (0, 4, 5)))


def _unfold(x: Array, kernel: int, stride: int, padding: int) -> Array:
    """Every patch, (B, C, k, k, h, w): [b, c, p, q, i, j] = x̄[b, c, stride·i + p, stride·j + q]."""
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    if min(padded.shape[2:]) < kernel:
        received = f"got {x.shape[2]}x{x.shape[3]} with padding {padding}"
        raise ValueError(f"an image must be at least as large as the kernel, {kernel}; {received}")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    return windows[:, :, ::stride, ::stride].transpose(0, 1, 4, 5, 2, 3)


def _fold(patches: Array, size: Size, stride: int, padding: int) -> Array:
    """The adjoint of `_unfold`: every patch added back to where it was read."""
    batch, channels, kernel, _, h, w = patches.shape
    height, width = size
    if min(size) < 1:
        raise ValueError(f"a transposed convolution must leave an image, got {height}x{width}")
    padded = np.zeros((batch, channels, height + 2 * padding, width + 2 * padding))
    for p in range(kernel):
        for q in range(kernel):
            rows, columns = slice(p, p + h * stride, stride), slice(q, q + w * stride, stride)
            padded[:, :, rows, columns] += patches[:, :, p, q]
    return padded[:, :, padding : padding + height, padding : padding + width]


def _build(name: str | int, *sizes: str | int) -> Layer:
    if name not in LAYERS:
        raise ValueError(f"a layer must be one of {', '.join(LAYERS)}, got {name!r}")
    return LAYERS[str(name)](*sizes)
