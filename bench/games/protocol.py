"""The protocol of a run: what it is played on."""

from __future__ import annotations

from collections.abc import Iterable

from mergearena.bench import suites
from mergearena.bench.files import checkpoints
from mergearena.bench.records.protocol import Protocol
from mergearena.bench.suites import soundness


def protocol(suite_name: str, tasks: Iterable[str], key: str, examples: int) -> Protocol:
    """The protocol of a run, with the hashes of every checkpoint that it touches.

    Raises:
        BadCheckpoint: a model of the suite cannot be played with.
    """
    suite, tasks = suites.get(suite_name), tuple(tasks)
    soundness.check(suite, tasks)
    hashes = {"base": checkpoints.fingerprint(suite.base())}
    hashes |= {task: checkpoints.fingerprint(suite.finetuned(task)) for task in tasks}
    return Protocol(suite=suite_name, key=key, examples=examples, checkpoints=hashes)
