"""What a study is of: written once into its folder, so that whoever resumes it means the same study."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from mergearena.bench.errors import ArenaError
from mergearena.bench.files.atomic import write_text
from mergearena.bench.players.tier import Tier

FILE = "study.json"


class Settings(BaseModel):
    """Everything that decides which trials a study makes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suite: str
    defense: str
    tier: Tier
    matches: tuple[str, ...]
    seeds: tuple[int, ...]
    stages: tuple[str, ...]
    """The stages to search; empty: every registered one."""
    examples: int
    key: str
    space: dict[str, str]
    """What there was to choose: stages registered or changed later make another study."""

    @property
    def slug(self) -> str:
        """A folder's name."""
        return re.sub(r"[^A-Za-z0-9.+=-]+", "_", f"{self.defense}.{self.tier}").strip("_")

    def settle(self, folder: Path) -> None:
        """Write the settings of a new study, or check that the one in the folder is the same.

        Raises:
            ArenaError: it is another.
        """
        path = folder / FILE
        if not path.exists():
            write_text(path, self.model_dump_json(indent=1) + "\n")
            return
        there = self.read(folder)
        differing = [name for name in Settings.model_fields if getattr(there, name) != getattr(self, name)]
        if differing:
            raise ArenaError(
                f"{folder} holds another study: {', '.join(differing)} differ{'s' * (len(differing) == 1)}; "
                "choose another --out, or repeat the options it was started with"
            )

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The settings of the study in a folder.

        Raises:
            ArenaError: there is none.
        """
        path = folder / FILE
        if not path.is_file():
            raise ArenaError(f"{folder}: no study there; `mergearena study run --defense ...` starts one")
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            raise ArenaError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
