"""What tests of studies share: a tiny suite with something to steal, a study on it, and a runner that plays nothing.

Run as a module, it is a study that can be killed.
"""

import sys
from pathlib import Path

import torch

from mergearena.bench.games import archive
from mergearena.bench.games.protection import Match
from mergearena.bench.games.protection.pipeline import parse_attack
from mergearena.bench.games.protocol import protocol
from mergearena.bench.players.tier import Tier
from mergearena.bench.records.cost import Cost
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.runner.run import Summary
from mergearena.bench.study.search import Budget, Search
from mergearena.bench.study.settings import Settings
from mergearena.bench.study.space import space_of
from record_factory import make_record
from tiny_suite import TinySuite

SUITE = "study_suite:StealableSuite"
STAGES = ("weight-matching", "gauge-anchor", "average", "task-arithmetic", "della")
KNOWN = ("identity > task-arithmetic", "weight-matching+gauge-anchor > average")


class StealableSuite(TinySuite):
    """A task's labels are what its own fine-tuned model says: that one is always right, the base is not."""

    name = "stealable"

    def finetuned(self, task):
        generator = torch.Generator().manual_seed(ord(task))
        return {k: v + 0.4 * v.std() * torch.randn(v.shape, generator=generator) for k, v in self.base().items()}

    def load(self, task, split):
        generator = torch.Generator().manual_seed(ord(task) * 10 + len(split))
        inputs = torch.randn(200, 3, 14, 14, generator=generator)
        return inputs, self.predict(self.finetuned(task), task, inputs).argmax(-1)


def study(folder: Path, *, defense="params", tier=Tier.DATA_FREE, stages=STAGES, seeds=(0,), jobs=1, known=KNOWN):
    """A study of params with few stages on one match."""
    matches = [Match(SUITE, "b", ("a",))]
    pipelines = [parse_attack(text) for text in known]
    space = space_of(tier, pipelines, stages)
    return Search(
        folder=folder,
        settings=Settings(
            suite=SUITE,
            defense=defense,
            tier=tier,
            matches=tuple(match.spelling for match in matches),
            seeds=seeds,
            stages=stages,
            examples=8,
            key="k",
            space=space.signature,
        ),
        protocol=protocol(SUITE, "ab", "k", examples=8),
        matches=matches,
        space=space,
        known=pipelines,
        references=[parse_attack(text) for text in ("base-only", "donors-only", *KNOWN)],
        jobs=jobs,
        limits=Limits(seconds=60, memory_gib=4),
    )


def skill(attack: str) -> float:
    """What a made-up attack gets of the victim: weight matching is needed, gauges help, averaging halves."""
    stages = [stage.name for stage in parse_attack(attack).stages]
    return ("weight-matching" in stages) * (0.5 + 0.5 * ("gauge-anchor" in stages)) / (1 + ("average" in stages))


class MadeUp:
    """A runner whose plays cost nothing: results by a rule, written as ordinary records."""

    def __init__(self, test=lambda share: share, fails=(), failing_defense=False):
        self.test, self.fails, self.failing_defense = test, fails, failing_defense
        self.runs: list[list[str]] = []
        self.stop_at: int | None = None

    def __call__(self, plays, root, *, keep, **_):
        assert keep
        if self.stop_at is not None and len(self.runs) >= self.stop_at:
            raise KeyboardInterrupt
        self.runs.append([play.attack.spelling for play in plays if play.attack and play.defense.spelling != "none"])
        found = [self._record(play) for play in plays]
        for record in found:
            archive.write(record, root)
        return Summary(records=found)

    def _record(self, play):
        common = {
            "id": play.id,
            "suite": play.protocol.suite,
            "victim": play.victim,
            "defense": play.defense.spelling,
            "seed": play.seed,
        }
        if play.attack is None:
            if self.failing_defense and play.defense.spelling != "none":
                return make_record(**common, attack=None, status="failed")
            return make_record(**common, attack=None)
        attack = play.attack.spelling
        common |= {"donors": play.donors, "attack": attack, "tier": play.attack.tier, "cost": Cost(flops=7)}
        if not play.attack.uses_victim:
            return make_record(**common, uses_victim=False, test=(0.5, 0.9))
        if attack in self.fails:
            return make_record(**common, status="timeout")
        share = skill(attack)
        if play.defense.spelling == "none":
            return make_record(**common, test=(0.9, 0.9))
        return make_record(**common, validation=(0.5 + 0.4 * share, 0.9), test=(0.5 + 0.4 * self.test(share), 0.9))


if __name__ == "__main__":
    study(Path(sys.argv[1])).run(Budget(trials=int(sys.argv[2])), lambda done, trial, best: print(done, flush=True))
