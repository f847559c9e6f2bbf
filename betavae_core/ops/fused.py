"""What ops share: a quick call, and a kernel's launcher as an op that PyTorch's compiler can see.

Registered with `torch.library` the launcher appears in a compiled graph as one opaque node, which
has a CPU version too, so every check of `opcheck` is possible without a GPU. Called eagerly the
launcher is called directly, which saves the dispatcher's 20 µs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial, wraps
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from betavae_core.ops.backend import choose

_UNUSUAL = ~(
    torch._C.DispatchKeySet(torch._C.DispatchKey.BackendSelect)
    | torch._C.DispatchKeySet(torch._C.DispatchKey.ADInplaceOrView)
).raw_repr()  # all but what each thread starts with
_KERNELS = {"triton": "betavae_core.kernels", "c": "betavae_core.kernels.c"}


def spare(tensor: Tensor) -> Tensor | None:
    """`tensor`, of which only the memory is still wanted, as the `out` of what comes next.

    On a CPU new memory costs several times what the arithmetic does. None where autograd, the
    compiler or a transformation may still want the values: the result then gets its own.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or transformed():
        return None
    return tensor


def transformed() -> bool:
    """Whether torch.func, vmap (either), a tracer or a dispatch mode sees each call of PyTorch."""
    return bool(torch._C._dispatch_tls_local_include_set().raw_repr() & _UNUSUAL)


def compute_dtype(x: Tensor) -> torch.dtype:
    """What is computed in: autocast's dtype where there is autocast, else that of `x`."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def apply(function: type[torch.autograd.Function], *args: Any) -> Any:
    """`function.apply(*args)`, which looks up a signature at each call: 30 µs, most of a small op.

    Only torch.func and torch.compile need what it finds.
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return function.apply(*args)
    return super(torch.autograd.Function, function).apply(*args)  # type: ignore[misc]


def differentiable_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """The `backward` of an autograd.Function whose gradient has none: to ask for it is an error.

    PyTorch's `once_differentiable` lets it pass as zero where the upstream gradient needs none.
    """

    @wraps(backward)
    def once(ctx: Any, *upstream: Tensor) -> Any:
        with torch.no_grad():
            gradients = backward(ctx, *upstream)
        if not torch.is_grad_enabled():
            return gradients
        message = b"this gradient is differentiable once: take it in evaluation, after .eval()"
        refuse = torch._C._functions.DelayedError(message, len(gradients))
        leaves: Any = [g if g is None else g.detach().requires_grad_() for g in gradients]
        return refuse(*leaves)

    return once


_import = cache(import_module)


class FusedOp:
    """The op `betavae::<name>`: a launcher of that name in `kernels` (CUDA) or `kernels.c` (CPU).

    Where neither can run, its formula does.

    Args:
        module, name: of the launcher; imported at the first launch, so that registering needs
            neither Triton nor a compiler.
        schema: the signature in torch.library's notation.
        formula: the same outputs in plain PyTorch, from the same arguments.
        fake: empty tensors of the outputs' shapes, dtypes and strides.
    """

    def __init__(
        self,
        module: str,
        name: str,
        schema: str,
        formula: Callable[..., Any],
        fake: Callable[..., Any],
    ) -> None:
        self._module, self._name, self.formula = module, name, formula
        self.op = torch.library.custom_op(
            f"betavae::{name}", self._on_cpu, mutates_args=(), device_types="cpu", schema=schema
        )
        self.op.register_fake(fake)
        self.op.register_kernel("cuda")(partial(self.launch, "triton"))

    def on(self, backend: str) -> Callable[..., Any]:
        """What runs the op with the kernels of `backend`, now or in a backward pass to come."""
        if torch.compiler.is_compiling():
            return self._as_a_node
        return partial(self._eagerly, self._kernels(backend))

    def launch(self, backend: str, *args: Any) -> Any:
        """Run the kernel of that backend, whatever the arguments."""
        return getattr(self._kernels(backend), self._name)(*args)

    def _kernels(self, backend: str) -> ModuleType:
        return _import(f"{_KERNELS[backend]}.{self._module}")

    def _on_cpu(self, *args: Any) -> Any:
        if choose("auto", args[0]) == "c":
            return self.launch("c", *args)
        return self.formula(*args)

    def _as_a_node(self, *args: Any) -> Any:
        return self.op(*args)

    def _eagerly(self, kernels: ModuleType, *args: Any) -> Any:
        watched = transformed()
        if watched and torch._C._len_torch_dispatch_stack():
            return self.op(*args)
        # A launcher reads memory: under vmap and tracers there is none to read, and in a
        # backward pass that is itself differentiated it would cut the graph without a word.
        # (An autograd.Function runs its forward, and a plain backward, with gradients disabled.)
        if watched or torch.is_grad_enabled():
            return self.formula(*args)
        return getattr(kernels, self._name)(*args)
