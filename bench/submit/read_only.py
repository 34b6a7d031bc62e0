"""Inputs that a player may not write to: an operation in place is refused, and what slips by is found afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mergearena.bench.errors import ArenaError
from mergearena.bench.files import checkpoints
from mergearena.bench.players.player import Player
from mergearena.bench.players.registry import registry
from mergearena.bench.players.views import View

_IN_VIEWS = ("base", "released", "donors", "contributions")


class WroteInput(ArenaError):
    """A player wrote to a tensor, or to a dict, that it was handed."""


@contextmanager
def inputs_read_only(player: type[Player]) -> Iterator[None]:
    """While it lasts, the player's method gets its inputs read-only.

    Raises:
        WroteInput: it wrote to one; from inside the method, or when that returns.
    """
    name = registry.kinds[player.kind].method
    method = getattr(player, name)

    def watched(self: Player, *arguments: Any) -> Any:
        handed = dict(_tensors(arguments))
        before = checkpoints.fingerprint(handed)
        with _Refuse(handed):
            result = method(self, *arguments)
        after = dict(_tensors(arguments))
        if handed.keys() != after.keys() or checkpoints.fingerprint(after) != before:
            changed = handed.keys() ^ after.keys() or {k for k, v in after.items() if v is not handed[k]}
            raise WroteInput(_message(self, min(changed, default="a tensor")))
        return result

    setattr(player, name, watched)
    try:
        yield
    finally:
        setattr(player, name, method)


def _message(player: Player, key: str) -> str:
    return f"{player.name} wrote to its input {key!r}; make a new dict, and clone a tensor before changing it in place"


def _tensors(value: object, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor that was handed over, under a name that says where it was."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, View):
        for part in _IN_VIEWS:
            yield from _tensors(getattr(value, part, None), f"view.{part}")
    elif isinstance(value, Mapping | tuple | list):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in pairs:
            yield from _tensors(item, f"{name}/{key}" if name else str(key))


class _Refuse(TorchDispatchMode):
    """Refuses operators that write to the memory of these tensors."""

    def __init__(self, handed: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._owner = {value.untyped_storage().data_ptr(): key for key, value in handed.items() if value.numel()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for place, name in _written(func):
            value = kwargs.get(name) if name in kwargs else args[place] if place < len(args) else None
            for _, tensor in _tensors([value]):
                if (key := self._owner.get(tensor.untyped_storage().data_ptr())) is not None:
                    raise WroteInput(
                        f"{func.overloadpacket.__name__} wrote to the input {key!r}, which is read-only; "
                        "clone a tensor before changing it in place"
                    )
        return func(*args, **kwargs)


@cache
def _written(func: Any) -> tuple[tuple[int, str], ...]:
    """The places and names of the arguments that an operator writes to."""
    arguments = enumerate(func._schema.arguments)
    return tuple((i, a.name) for i, a in arguments if a.alias_info is not None and a.alias_info.is_write)
