"""Checkpoints: safetensors only. Load, save, hash, and the preflight every model passes."""

import hashlib
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Parameter

from mergearena.bench.errors import BadCheckpoint

StateDict = dict[str, Tensor]
"""Parameter name -> tensor."""


def load(path: Path, dtype: torch.dtype | None = torch.float32) -> StateDict:
    """Read a safetensors file; floating tensors are cast to ``dtype`` unless it is None.

    Raises:
        BadCheckpoint: the file is missing, is not safetensors (pickles are refused), or is damaged.
    """
    if not path.is_file():
        raise BadCheckpoint(f"{path}: no such checkpoint")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        kind = "a pickled checkpoint" if _is_pickle(path) else "not a readable safetensors file"
        raise BadCheckpoint(
            f"{path}: {kind} ({error}). Convert it with safetensors.torch.save_file; "
            "pickles are refused because loading one runs code."
        ) from error
    if dtype is None:
        return state
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}


def _is_pickle(path: Path) -> bool:
    """Whether the file starts like a zip (torch.save) or a bare pickle."""
    head = path.read_bytes()[:2]
    return head in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def save(state: Mapping[str, Tensor], path: Path) -> None:
    """Write atomically: readers see the old file or the whole new one.

    Raises:
        OSError: the disk is full or not writable; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(_unshared(state), name)
        os.replace(name, path)
    except SafetensorError as error:
        raise OSError(f"{path}: could not be written ({error})") from error
    finally:
        Path(name).unlink(missing_ok=True)


def _unshared(state: Mapping[str, Tensor]) -> StateDict:
    """Contiguous tensors of which no two share memory, which safetensors does not store."""
    seen: set[int] = set()
    apart = {}
    for key, value in state.items():
        value = value.contiguous()
        apart[key] = value.clone() if value.untyped_storage().data_ptr() in seen else value
        seen.add(value.untyped_storage().data_ptr())
    return apart


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, independent of key order."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        digest.update(f"{key}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def cast(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> StateDict:
    """The state with floating-point tensors in the precision that ``like`` has them in."""

    def fits(key: str, value: Tensor) -> bool:
        return key in like and value.is_floating_point() and like[key].is_floating_point()

    return {key: value.to(like[key].dtype) if fits(key, value) else value for key, value in state.items()}


def preflight(state: Any, like: Mapping[str, Tensor], who: str, remedy: str | None = None) -> StateDict:
    """Check that ``state`` is a drop-in replacement for ``like`` and return it.

    Args:
        state: to be checked.
        like: whose keys, shapes and dtypes are wanted.
        who: made it, for the message.
        remedy: what to do about it; None: what a player should do.

    Raises:
        BadCheckpoint: it is not a dict of tensors, or keys, shapes, dtypes differ, or a value is not finite.
    """
    # Not isinstance: a subclass may show one thing here and another to whoever stores it.
    if type(state) not in (dict, OrderedDict) or not all(type(v) in (Tensor, Parameter) for v in state.values()):
        raise BadCheckpoint(f"{who} returned {type(state).__name__}; return a plain dict of parameter name -> tensor")
    if missing := sorted(like.keys() - state.keys()):
        raise BadCheckpoint(f"{who} left out {_few(missing)}; {remedy or 'return every key of the model it was given'}")
    if extra := sorted(state.keys() - like.keys()):
        raise BadCheckpoint(f"{who} added {_few(extra)}; {remedy or 'return only the keys of the model it was given'}")
    for key, reference in like.items():
        value = state[key]
        if value.shape != reference.shape:
            raise BadCheckpoint(
                f"{who} changed the shape of {key!r} from {tuple(reference.shape)} to {tuple(value.shape)}; "
                f"{remedy or 'keep the architecture'}"
            )
        if value.dtype != reference.dtype:
            raise BadCheckpoint(
                f"{who} changed the dtype of {key!r} from {reference.dtype} to {value.dtype}; "
                f"{remedy or 'cast it back'}"
            )
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise BadCheckpoint(f"{who} put NaN or infinity into {key!r}; {remedy or 'check for divisions by zero'}")
    return {key: state[key].detach() for key in like}


def _few(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    shown = ", ".join(repr(n) for n in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
