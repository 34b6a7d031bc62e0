"""Initial weights of modules, which libraries draw from torch's global generator."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def initial_weights(seed: int | None = None) -> Iterator[None]:
    """Build modules in the block: torch's global generator is left as it was, and no other such block draws from it.

    Args:
        seed: where the generator starts, for weights that are not replaced afterwards.
    """
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        yield
