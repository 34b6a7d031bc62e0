"""Meters: what a player's work cost, in seconds, floating-point operations, bytes, examples and steps."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count


class Cost(BaseModel):
    """What one piece of work took."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    flops: int = 0
    """Floating-point operations of matrix products, convolutions and attention; assignments are not counted."""
    peak_host_bytes: int = 0
    peak_accelerator_bytes: int = 0
    unlabelled_examples: int = 0
    labelled_examples: int = 0
    gradient_steps: int = 0


def _attention_flops(query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _attention_backward_flops(_: Tensor, query: Tensor, key: Tensor, value: Tensor, *__: object, **___: object) -> int:
    # Five matrix products against the forward's two.
    return 5 * sdpa_flop_count(query.shape, key.shape, value.shape) // 2


def _product_flops(_: Tensor, left: Tensor, right: Tensor, *__: object, **___: object) -> int:
    return 2 * left.shape[-2] * left.shape[-1] * right.shape[-1] * left.shape[:-2].numel()


# Operators for which PyTorch has no formula: products that add in place, the kernel of attention on CPUs.
_OURS = {
    torch.ops.aten.addmm_: _product_flops,
    torch.ops.aten.baddbmm_: _product_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}


class _FlopCounter(TorchDispatchMode):
    """Counts operations by PyTorch's own formulas.

    Its ``FlopCounterMode`` also keeps a tally per module, which makes a training step here twice as slow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        ours: Any = _OURS.get(packet)
        theirs: Any = flop_registry.get(packet)
        if ours is None and theirs is None and _is_composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        if ours is not None:
            self.total += ours(*args, **kwargs)
        elif theirs is not None:
            self.total += theirs(*args, **kwargs, out_val=result)
        return result


@cache
def _is_composite(func: Any) -> bool:
    """Whether an operator, as it arrives in inference mode, is made of others that have formulas."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


@contextmanager
def metered(count_flops: bool = True) -> Iterator[Cost]:
    """Fill a :class:`Cost` with what the block takes in this process.

    Peak memory is the process's, so one process should meter one piece of work. Gradient steps are counted by
    hooking every ``torch.optim`` optimizer. PyTorch's fused attention fast path, which hides its
    operations from the counter, is switched off for the duration. Counting operations slows small models by a
    quarter: where they are known beforehand, leave it out.
    """
    cost = Cost()
    steps = 0

    def count(_: Optimizer, __: object, ___: object) -> None:
        nonlocal steps
        steps += 1

    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    hook = register_optimizer_step_post_hook(count)
    accelerated = torch.cuda.is_available()
    if accelerated:
        torch.cuda.reset_peak_memory_stats()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        counter = _FlopCounter()
        with counter if count_flops else nullcontext():
            yield cost
    finally:
        cost.wall_seconds = time.perf_counter() - wall
        cost.cpu_seconds = time.process_time() - cpu
        cost.flops = counter.total
        cost.peak_host_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        cost.peak_accelerator_bytes = torch.cuda.max_memory_allocated() if accelerated else 0
        cost.gradient_steps = steps
        hook.remove()
        torch.backends.mha.set_fastpath_enabled(fast_path)
