"""Options that several commands take, and how a command takes a dataclass of them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import typer

T = TypeVar("T")
CORES = os.cpu_count() or 1
TRACK = "protection"
"""The game to play unless told otherwise."""

RecordsOption = Annotated[
    list[Path], typer.Option("--records", help="Folder of a catalogue run's records. Repeatable: one per suite.")
]
BoardOption = Annotated[Path, typer.Option("--board", help="Folder of the committed board.")]
SuiteOption = Annotated[str, typer.Option("--suite", help="Suite to play: embedded or text.")]
TrackOption = Annotated[
    str, typer.Option(help="The game to play, such as protection or backdoor; see `mergearena list tracks`.")
]
TierOption = Annotated[
    Literal["data-free", "unlabelled", "labelled"], typer.Option(help="Play no attack beyond this tier.")
]
ExamplesOption = Annotated[int, typer.Option(min=1, help="k: examples per task for the data tiers.")]
PluginOption = Annotated[
    list[Path] | None, typer.Option("--plugin", help="Python file with your own players to register. Repeatable.")
]
TargetArgument = Annotated[str, typer.Argument(metavar="FILE[:NAME]", help="The file, and which of its players.")]
PlayedRecordsOption = Annotated[
    Path | None, typer.Option(help="Folder of the records; those that still hold are reused. [runs/SUITE/records]")
]


def takes(options: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Decorator of a command that takes an option for every field of a dataclass and is called with an instance.

    A field is declared as a parameter of a command would be; the help lists inherited ones last.
    """
    hints = get_type_hints(options, include_extras=True)
    named = {field.name: field for field in fields(options)}  # type: ignore[arg-type]  # of a dataclass
    ordered = dict.fromkeys(name for part in options.__mro__ for name in vars(part).get("__annotations__", ()))
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_default(named[name]), annotation=hints[name])
        for name in ordered
        if name in named
    ]

    def decorate(command: Callable[[T], None]) -> Callable[..., None]:
        @wraps(command)
        def called(**given: Any) -> None:
            command(options(**given))

        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by inspect
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return called

    return decorate


def _default(field: Field[Any]) -> Any:
    return inspect.Parameter.empty if field.default is MISSING else field.default
