"""Options that several commands take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

CORES = os.cpu_count() or 1


RecordsOption = Annotated[
    list[Path], typer.Option("--records", help="Folder of a catalogue run's records. Repeatable: one per suite.")
]


BoardOption = Annotated[Path, typer.Option("--board", help="Folder of the committed board.")]


SuiteOption = Annotated[str, typer.Option("--suite", help="Suite to play: embedded or text.")]
