"""``mergearena auto ...``"""

from __future__ import annotations

import typer

from mergearena.bench.cli.console import console as _console
from mergearena.bench.cli.options import RecordsOption

auto_app = typer.Typer(no_args_is_help=True, help="Check and choose auto, the standard ensemble of attacks.")


@auto_app.command("check")
def auto_check(records: RecordsOption) -> None:
    """Compare what auto reaches with what every recorded attack together reaches, and their cost."""
    from mergearena.bench.cli.commands import auto

    if not auto.check(records, _console()):
        raise typer.Exit(1)


@auto_app.command("choose")
def auto_choose(records: RecordsOption) -> None:
    """Print the cheapest ensemble found that reaches what every recorded attack together reaches."""
    from mergearena.bench.cli.commands import auto

    auto.choose(records, _console())
