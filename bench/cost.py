"""Meters: what a player's work cost, in seconds, floating-point operations, bytes, examples and steps."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pydantic import BaseModel, ConfigDict
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


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


def _counter() -> FlopCounterMode:
    """PyTorch's counter, taught the CPU's attention kernel, which it does not know."""
    forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

    def cpu_forward(query: object, key: object, value: object, *_: object, **__: object) -> int:
        return sdpa_flop_count(query, key, value)

    def cpu_backward(_: object, query: object, key: object, value: object, *__: object, **___: object) -> int:
        return 5 * sdpa_flop_count(query, key, value) // 2

    return FlopCounterMode(display=False, custom_mapping={forward: cpu_forward, backward: cpu_backward})


@contextmanager
def metered() -> Iterator[Cost]:
    """Fill a :class:`Cost` with what the block takes in this process.

    Peak memory is the process's, so one process should meter one piece of work. Gradient steps are counted by
    hooking every ``torch.optim`` optimizer. PyTorch's fused attention fast path, which hides its
    operations from the counter, is switched off for the duration.
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
        with _counter() as counter:
            yield cost
    finally:
        cost.wall_seconds = time.perf_counter() - wall
        cost.cpu_seconds = time.process_time() - cpu
        cost.flops = counter.get_total_flops()
        cost.peak_host_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        cost.peak_accelerator_bytes = torch.cuda.max_memory_allocated() if accelerated else 0
        cost.gradient_steps = steps
        hook.remove()
        torch.backends.mha.set_fastpath_enabled(fast_path)
