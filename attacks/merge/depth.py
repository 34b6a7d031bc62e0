"""How deep in a model a tensor lies."""

from collections.abc import Iterable, Mapping
from itertools import takewhile

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.symmetry.architecture import Architecture


def depths(architecture: Architecture, base: StateDict) -> Mapping[str, int]:
    """Tensor -> its block, 1 to L; 0 for what comes before the first, L + 1 for what comes after the last.

    A block is all that shares the name of an attention layer and its MLP up to where they differ. After the last come
    a norm that no block owns or reads, and what reads it.
    """
    layers = zip(architecture.attentions, architecture.mlps, strict=True)
    blocks = [_shared([*attention.keys, *mlp.keys]) for attention, mlp in layers]

    def block(key: str) -> int:
        parts = key.split(".")
        return next((number for number, name in enumerate(blocks, start=1) if parts[: len(name)] == name), 0)

    last = {key for norm in architecture.norms if not any(map(block, norm.keys)) for key in norm.keys}
    return {key: len(blocks) + 1 if key in last else block(key) for key in base}


def _shared(keys: Iterable[str]) -> list[str]:
    """The first parts of dotted names, as far as all have the same."""
    columns = zip(*(key.split(".") for key in keys), strict=False)
    return [parts[0] for parts in takewhile(lambda parts: len({*parts}) == 1, columns)]
