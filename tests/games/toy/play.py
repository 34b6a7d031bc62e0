"""Its plays and records."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from games.toy import players  # noqa: F401 - registers them
from games.toy.kinds import Eraser, Painter
from mergearena.bench import suites
from mergearena.bench.files import checkpoints
from mergearena.bench.games import base
from mergearena.bench.games.base import SPLITS, Played
from mergearena.bench.games.match import parse_tasks, spell
from mergearena.bench.games.metering import metered
from mergearena.bench.games.protocol import protocol
from mergearena.bench.games.randomness import seeded
from mergearena.bench.players.spelling import Reader
from mergearena.bench.records import record
from mergearena.bench.records.cost import Cost
from mergearena.bench.records.fields import Share
from mergearena.bench.records.record import Scores

TRACK = "toy"
PRESETS = {"quick": (("spray", "spray(strength=0.1)"), ("water", "solvent"))}


class Record(record.Record):
    """A painting, or an erasing of one."""

    track: Literal["toy"] = TRACK
    kind: Literal["painting", "erasing"]
    both: tuple[str, ...]
    attack: str
    defense: str | None
    dirt: Share | None = None
    """Distance from the clean model, over that plus its norm."""

    @property
    def tasks(self):
        return self.both

    @property
    def title(self):
        return f"{self.attack} × {self.defense or 'painting'}"

    @property
    def place(self):
        return TRACK, spell(self.both), self.attack, self.defense or "painting"


@dataclass(frozen=True, kw_only=True)
class Play(base.Play):
    """A painter soils the first model; with an eraser, it starts from that."""

    track: ClassVar[str] = TRACK
    scoring: ClassVar[str] = "1"
    both: tuple[str, ...]
    painter: Painter
    eraser: Eraser | None = None

    reads = ()
    labelled = False
    trains = ()

    @property
    def kind(self):
        return "painting" if self.eraser is None else "erasing"

    @property
    def title(self):
        return f"{self.painter.spelling} × {self.eraser.spelling if self.eraser else 'painting'}"

    @property
    def id(self):
        eraser = self.eraser.spelling if self.eraser else None
        return self.identified(track=TRACK, both=self.both, attack=self.painter.spelling, defense=eraser)

    @property
    def tasks(self):
        return self.both

    @property
    def players(self):
        return [self.painter, *([self.eraser] if self.eraser else [])]

    @property
    def needs(self):
        return replace(self, eraser=None) if self.eraser else None

    @property
    def needed(self):
        return self.eraser is None

    @property
    def models(self):
        return self.both[:1] if self.eraser is None else ()

    @property
    def offer(self):
        return partial(offered, self.protocol.suite, self.models)

    def draw(self, task):
        raise AssertionError("nobody reads examples")

    def shown(self):
        return self

    def run(self, suite, files, progress):
        with metered() as cost:
            if self.eraser is None:
                generator = seeded(self.protocol.key, self.painter.spelling, self.seed)
                made = self.painter.paint(suite.finetuned(self.both[0]), generator)
            else:
                made = self.eraser.erase(checkpoints.load(files.given, dtype=None), suite.base())
        return Played(checkpoints.preflight(made, suite.base(), self.title), cost)

    def judge(self, result, given):
        suite, state = suites.get(self.protocol.suite), checkpoints.load(result, dtype=None)
        score = {split: {task: suite.score(state, task, split) for task in self.both} for split in SPLITS}
        clean = suite.finetuned(self.both[0])
        off = sum(float((state[k] - v).square().sum()) for k, v in clean.items())
        norm = sum(float(v.square().sum()) for v in clean.values())
        return {"score": Scores(**score), "dirt": off / (off + norm), "evaluation_cost": Cost()}

    def settled(self, known):
        return False

    def record(self, **common):
        eraser = self.eraser.spelling if self.eraser else None
        return Record(kind=self.kind, both=self.both, attack=self.painter.spelling, defense=eraser, **common)


def offered(name, models, files):
    """Of this module, which a process that may read installed code alone imports before it is confined."""
    return base.confined(name, models, files)


def planned(options):
    """Every painting, then every eraser on each."""
    tasks = tuple(suites.get(options.suite).tasks)
    attacks, defenses = PRESETS[options.preset]
    painters = [Reader(text).segments(("painter",))[0][0] for text in options.attacks or attacks]
    erasers = [Reader(text).segments(("eraser",))[0][0] for text in options.defenses or defenses]
    found = []
    for both in [parse_tasks(text, options.suite, tasks) for text in options.matches] or [tasks[:2]]:
        held = protocol(options.suite, both, options.key, options.examples)
        paintings = [Play(protocol=held, seed=0, both=both, painter=painter) for painter in painters]
        found += [*paintings, *(replace(p, eraser=eraser) for p in paintings for eraser in erasers)]
    return found
