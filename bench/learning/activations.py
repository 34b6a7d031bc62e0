"""What layers see while a model runs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def inputs_of(model: nn.Module, keys: Iterable[str]) -> Iterator[Mapping[str, Tensor]]:
    """By parameter, the first input of the module that owns it, as of the model's last run in the block."""
    seen: dict[str, Tensor] = {}

    def keep(key: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _, arguments: seen.update({key: arguments[0]})

    with ExitStack() as hooks:
        for key in keys:
            handle = model.get_submodule(key.rpartition(".")[0]).register_forward_pre_hook(keep(key))
            hooks.callback(handle.remove)
        yield seen
