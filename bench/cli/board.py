"""``mergearena leaderboard ...``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mergearena.bench.cli.console import console as _console
from mergearena.bench.cli.options import BoardOption

board_app = typer.Typer(no_args_is_help=True, help="Turn records into the leaderboard.")


@board_app.command("build")
def leaderboard_build(
    folder: BoardOption = Path("leaderboard"),
    records: Annotated[
        list[Path] | None,
        typer.Option(help="Build a board of these folders' records instead, such as a run's. Repeatable."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="With --records: where to write the board; its page goes beside it, as .html.")
    ] = Path("runs/leaderboard.json"),
) -> None:
    """Build the committed board, as JSON and as a page: the same records give the same bytes."""
    from mergearena.bench.cli.commands import board

    if records:
        board.build_from(records, out, _console())
    else:
        board.build_committed(folder, _console())


@board_app.command("check")
def leaderboard_check(folder: BoardOption = Path("leaderboard")) -> None:
    """Is the committed board what its records say, and is every record as it was written? Exit code 1 if not."""
    from mergearena.bench.cli.commands import board

    if not board.check(folder, _console()):
        raise typer.Exit(1)


@board_app.command("publish")
def leaderboard_publish(
    records: Annotated[list[Path], typer.Option(help="Folder of a run's records. Repeatable: one per suite.")],
    folder: BoardOption = Path("leaderboard"),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Make a run's records official and build the board again: nothing else changes official records."""
    from mergearena.bench.cli.commands import board

    if not board.publish(records, folder, _console(), confirmed=yes):
        raise typer.Exit(1)


@board_app.command("add")
def leaderboard_add(
    claims: Annotated[list[Path], typer.Argument(help="JSON files, each a pipeline or merged weights and a defense.")],
    folder: BoardOption = Path("leaderboard"),
) -> None:
    """Try stronger attacks on known defenses, and add what they reach to the board as later evidence."""
    from mergearena.bench.cli.commands import evidence

    evidence.add(claims, folder, _console())
