"""The board -> one HTML page that needs nothing else: a pure function; the same board gives the same bytes."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup, escape

from mergearena.bench.files.pages import templates_in
from mergearena.bench.games.game import games
from mergearena.bench.players.tier import Tier
from mergearena.leaderboard.board.build import to_json
from mergearena.leaderboard.board.games import Shown, board_of
from mergearena.leaderboard.board.leaderboard import Leaderboard
from mergearena.leaderboard.charts import palette
from mergearena.leaderboard.page.anchors import anchors
from mergearena.leaderboard.page.formats import percent, relative, spanned

TEMPLATES = Path(__file__).with_name("templates")
_BREAKS = re.compile(r"(?<=[+,(_/])|(?<=> )|(?<=[a-z]-)(?=[a-z])")
_LITERAL = re.compile(r"``?([^`]+)``?")
_PLAYER = re.compile(r"([A-Za-z][\w.-]*)(?:\([^()]*\))?")


@dataclass(frozen=True)
class Track:
    """One game as the page's templates see it."""

    name: str
    title: str
    numbers: Mapping[str, object]
    sections: Sequence[Shown]

    @property
    def count(self) -> int:
        """How many boards it has."""
        return len(self.sections)


def render(board: Leaderboard) -> str:
    """The page of a board: HTML with its style, its script, its plots and no reference to anything outside."""
    script = (TEMPLATES / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _templates(board)
        .get_template("page.html.jinja")
        .render(
            board=board,
            tracks=[_track(name, board) for name in board.games],
            players={player.name: player for player in board.players},
            player_links=anchors("player", (player.name for player in board.players)),
            submitted={player: s for s in board.submissions for player in s.players},
            colours=Markup("\n".join(palette.rules())),
            script=Markup(script),
            script_digest=digest,
        )
    )


def texts(board: Leaderboard) -> dict[str, str]:
    """File name -> text, of everything that a committed board is made into."""
    return {"leaderboard.json": to_json(board), "index.html": render(board)}


def _track(name: str, board: Leaderboard) -> Track:
    side = board_of(name)
    return Track(name, games.find(name).title, side.numbers, [side.section(suite) for suite in board.games[name]])


def _templates(board: Leaderboard) -> Environment:
    """The page's templates, and those of the board's games."""
    found = templates_in(TEMPLATES, {name: board_of(name).templates for name in board.games})
    found.globals |= {
        "tiers": [tier.value for tier in Tier],
        "heat_class": palette.heat_class,
        "stages": stages,
        "spanned": spanned,
    }
    found.filters |= {
        "percent": percent,
        "relative": relative,
        "spelled": spelled,
        "prose": prose,
        "summary": summary,
    }
    return found


def spelled(text: str) -> Markup:
    """A spelling, escaped, that may be broken between its parts."""
    return Markup("<wbr>").join(part for part in _BREAKS.split(text) if part)


def stages(spelling: str) -> list[str]:
    """The names of the players of a spelling, each once."""
    return list(dict.fromkeys(_PLAYER.findall(spelling)))


def summary(description: str) -> Markup:
    """The first sentence of a docstring."""
    return _inline(" ".join(description.split("\n\n")[0].split()).removesuffix(":"))


def prose(description: str) -> Markup:
    """A docstring as paragraphs; indented blocks keep their lines."""
    return Markup("\n").join(map(_block, description.split("\n\n")))


def _block(text: str) -> Markup:
    if all(line.startswith("  ") for line in text.splitlines()):
        return Markup("<pre>{}</pre>").format(text)
    return Markup("<p>{}</p>").format(_inline(" ".join(text.split())))


def _inline(text: str) -> Markup:
    return Markup(_LITERAL.sub(r"<code>\1</code>", str(escape(text))))
