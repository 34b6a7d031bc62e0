"""How players are spelled: names with options, joined by ``+`` and ``>``; a reader that points at mistakes."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from mergearena.bench.errors import ArenaError, BadPipeline
from mergearena.bench.players.player import Player
from mergearena.bench.players.registry import registry

_NAME = re.compile(r"\s*([A-Za-z][\w.-]*)\s*")
_KEY = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*")
_VALUE = re.compile(r"""\s*(\[[^\]]*\]|'[^']*'|"[^"]*"|[^,()\[\]>\s]+)\s*""")
_WORDS = {"true": True, "false": False, "null": None}


@dataclass
class Reader:
    """A recursive-descent reader that remembers where it is, for messages that point."""

    text: str
    at: int = 0

    def segments(self, kinds: tuple[str, ...]) -> list[list[Any]]:
        """Segments between '>' of players between '+'."""
        segments: list[list[Any]] = [[self._player(kinds)]]
        while self.at < len(self.text):
            mark = self.text[self.at]
            if mark not in "+>":
                raise self._error("expected '+', '>' or the end")
            self.at += 1
            player = self._player(kinds)
            if mark == "+":
                segments[-1].append(player)
            else:
                segments.append([player])
        return segments

    def _player(self, kinds: tuple[str, ...]) -> Player:
        start = len(self.text) - len(self.text[self.at :].lstrip())
        name = self._match(_NAME, "expected a name")
        config = self._config() if self.text[self.at : self.at + 1] == "(" else {}
        try:
            return registry.find(name, *kinds)(**config)
        except ArenaError as error:
            raise type(error)(f"{error}\n{self._pointer(start)}") from None

    def _config(self) -> dict[str, Any]:
        self.at += 1
        config: dict[str, Any] = {}
        while not self._skip(")"):
            start = self.at
            key = self._match(_KEY, "expected key=value or ')'")
            if key in config:
                self.at = start
                raise self._error(f"{key!r} is given twice")
            config[key] = _value(self._match(_VALUE, f"expected a value for {key!r}"))
            if not self._skip(",") and self.text[self.at : self.at + 1] != ")":
                raise self._error("expected ',' or ')'")
        return config

    def _skip(self, mark: str) -> bool:
        rest = self.text[self.at :]
        blank = len(rest) - len(rest.lstrip())
        if not rest[blank:].startswith(mark):
            return False
        self.at += blank + 1
        rest = self.text[self.at :]
        self.at += len(rest) - len(rest.lstrip())
        return True

    def _match(self, pattern: re.Pattern[str], problem: str) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise self._error(problem)
        self.at = found.end()
        return found.group(1)

    def _error(self, problem: str) -> BadPipeline:
        blank = len(self.text[self.at :]) - len(self.text[self.at :].lstrip())
        return BadPipeline(f"{problem}\n{self._pointer(self.at + blank)}")

    def _pointer(self, at: int) -> str:
        return f"  {self.text}\n  {' ' * at}^"


def _value(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
