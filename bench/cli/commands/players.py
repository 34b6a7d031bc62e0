"""``mergearena list`` and ``show``."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mergearena.bench import suites
from mergearena.bench.errors import BadConfig, UnknownName
from mergearena.bench.games.game import games
from mergearena.bench.games.protection import ENOUGH, presets
from mergearena.bench.games.protection.pipeline import parse_attack
from mergearena.bench.players.options import options_of
from mergearena.bench.players.player import Player
from mergearena.bench.players.registry import registry
from mergearena.bench.players.stages import Stage

_KINDS: dict[str, tuple[str, ...]] = {
    "defenses": ("defense", "sanitize", "repair"),
    "attacks": ("align", "merge", "recover", "attack", "backdoor"),
}


def listing(what: str) -> RenderableType:
    """Tables of players, suites, tracks and presets.

    Raises:
        UnknownName: ``what`` is none of them.
    """
    sections = {name: _players(name, kinds) for name, kinds in _KINDS.items()}
    sections["suites"] = _lines("suites", suites.names())
    sections["tracks"] = _lines("tracks", (f"{game.name}: {game.summary}" for game in games.every()))
    sections["presets"] = _presets()
    if what == "all":
        return Group(*sections.values())
    if what not in sections:
        raise UnknownName(f"cannot list {what!r}; there are: {', '.join(sections)}")
    return sections[what]


def _presets() -> RenderableType:
    table = Table(title="presets", box=box.SIMPLE_HEAD, title_style="bold")
    for name in ("track", "presets"):
        table.add_column(name)
    for game in games.every():
        table.add_row(game.name, ", ".join(game.presets))
    return table


def _players(title: str, kinds: tuple[str, ...]) -> RenderableType:
    note = "+: some options need a higher tier" if "merge" in kinds else None
    table = Table(title=title, box=box.SIMPLE_HEAD, title_style="bold", caption=note, caption_justify="left")
    for name in ("kind", "name", "tier", "cost"):
        table.add_column(name, no_wrap=True)
    table.add_column("what it does", ratio=3)
    table.add_column("source", ratio=2)
    for kind in kinds:
        for player in registry.players(kind):
            traits = (_tier(player), player.cost_class) if issubclass(player, Stage) else ("", "")
            table.add_row(kind, player.name, *traits, escape(_summary(player)), escape(player.paper or "ours"))
    if "attack" in kinds:
        steps = f"The standard ensemble: {len(presets.AUTO)} pipelines, played while anything is left to recover."
        table.add_row("ensemble", presets.AUTO_NAME, "every", "", steps, "ours")
    return table


def _tier(player: type[Stage]) -> str:
    """The tier a stage plays in as it is, with a mark if its options decide."""
    try:
        tier = player().tier
    except BadConfig:  # some field has no default
        tier = player.base_tier
    return f"{tier}{'' if player.tier is Stage.tier else '+'}"


def _summary(player: type[Player]) -> str:
    text = inspect.cleandoc(player.__doc__ or "")
    return " ".join(text.split("\n\n")[0].split()).removesuffix(":")


def _lines(title: str, names: Iterable[str]) -> RenderableType:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_style="bold", show_header=False)
    for name in names:
        table.add_row(name)
    return table


def _auto() -> RenderableType:
    """The standard ensemble, explained."""
    table = Table(title="steps, in the order they are played", box=box.SIMPLE_HEAD, title_style="bold")
    table.add_column("tier")
    table.add_column("attack")
    for step in presets.AUTO:
        table.add_row(parse_attack(step).tier, escape(step))
    return Group(
        f"[bold]{presets.AUTO_NAME}[/]  the standard ensemble of attacks, which has no options",
        "",
        "Chosen by measuring: on every match, defense and tier of the catalogue it reaches what all pipelines together "
        f"reach, to within a point. A cascade: a match on which a defense has lost {100 * ENOUGH:g} % of the victim's "
        "skill, in every tier that a step could count in, is not attacked further.",
        "",
        table,
    )


def player(name: str) -> RenderableType:
    """One player, explained.

    Raises:
        UnknownName: no player has that name; the message suggests some.
    """
    if name == presets.AUTO_NAME:
        return _auto()
    found = registry.find(name)
    head = f"[bold]{found.name}[/]  {found.kind}"
    if issubclass(found, Stage):
        head += f", tier {_tier(found)}, cost class {found.cost_class}"
    parts: list[RenderableType] = [
        head,
        f"[dim]source:[/] {escape(found.paper) or 'ours'}   [dim]code:[/] {found.__module__}",
        "",
        escape(inspect.cleandoc(found.__doc__ or "")),
        "",
    ]
    if options := options_of(found).values():
        table = Table(title="config", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
        explained = any(option.meaning for option in options)
        for column in ("field", "default", "type", *(("meaning",) if explained else ())):
            table.add_column(column)
        for option in options:
            meaning = (escape(" ".join(option.meaning.split())),) if explained else ()
            table.add_row(option.name, option.default, escape(option.type), *meaning)
        parts.append(table)
    else:
        parts.append("[dim]no config[/]")
    return Group(*parts)
