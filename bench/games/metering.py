"""Meters: what a player's work cost, in seconds, operations, bytes and gradient steps."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from mergearena.bench.records.cost import Cost
from mergearena.bench.suites.base import Suite


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


@cache
def forward_flops(suite: Suite) -> int:
    """Operations of one forward pass per example, measured on a batch."""
    task = next(iter(suite.tasks))
    inputs = suite.load(task, "validation")[0][: suite.batch_size]
    base = suite.base()
    suite.predict(base, task, inputs[:1])  # what is computed when first asked for, a head, is no part of a forward pass
    with metered() as cost:
        suite.predict(base, task, inputs)
    return round(cost.flops / len(inputs))


def fine_tuning_flops(suite: Suite) -> int:
    """Operations of fine-tuning one model from the base: forward and backward (3 forwards) per example seen."""
    return 3 * forward_flops(suite) * suite.fine_tuning_examples
