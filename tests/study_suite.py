"""A tiny suite with something to steal, and a study on it, for its tests; run as a module, one that can be killed."""

import sys
from pathlib import Path

import torch

from bench.executors.local import Limits
from bench.game import Tier
from bench.games.base import protocol
from bench.games.protection import Match
from bench.pipeline import parse_attack
from bench.study.search import Budget, Search
from bench.study.settings import Settings
from bench.study.space import space_of
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


if __name__ == "__main__":
    study(Path(sys.argv[1])).run(Budget(trials=int(sys.argv[2])), lambda done, trial, best: print(done, flush=True))
