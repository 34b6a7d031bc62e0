"""The text tasks: their classes, prompts and packs, and one split of a pack at a time.

A pack is a parquet file with the columns ``text``, ``label``, ``label_name`` and ``split``. Each split is its
own row group, so reading one split touches no other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from mergearena.bench.suites.base import Split
from mergearena.bench.suites.classification import ClassificationTask

if TYPE_CHECKING:
    from datasets import Dataset

_PACKS = Path(__file__).parents[1] / "data" / "text"


@dataclass(frozen=True, kw_only=True)
class TextTask(ClassificationTask):
    """A task on short English texts."""

    pack: str
    """File name of the pack, without its ending."""
    prompts: tuple[str, ...]
    """One text per class, whose embedding by the base model is the class's row of the head."""


_WORDNET = "WordNet 3.0, Princeton University"

TASKS: dict[str, TextTask] = {
    task.name: task
    for task in (
        TextTask(
            name="sections",
            title="Topic of a software package from its one-line description",
            classes=(
                "games", "sound", "graphics", "fonts", "math", "mail", "science", "net", "localization",
                "database",
            ),
            prompts=(
                "games", "sound", "graphics", "fonts", "math", "mail", "science", "net", "localization",
                "database",
            ),
            source="Debian 12 package index",
            licence="facts from the index",
            pack="debian_sections",
        ),
        TextTask(
            name="supersense",
            title="Semantic class of a noun from its definition",
            classes=(
                "animal", "plant", "food", "body", "artifact", "person", "location", "substance", "act",
                "communication", "state", "time",
            ),
            prompts=(
                "an animal", "a plant", "a food", "a part of the body", "an artifact", "a person",
                "a location", "a substance", "an act", "communication", "a state or condition",
                "a time or period",
            ),
            source=_WORDNET,
            licence="WordNet 3.0",
            pack="wordnet_supersense",
        ),
        TextTask(
            name="pos",
            title="Part of speech of a word from its definition",
            classes=("noun", "verb", "adj", "adv"),
            prompts=(
                "definition of a noun: a thing, the",
                "definition of a verb: to do, make, be",
                "definition of an adjective: having, of or relating to",
                "definition of an adverb: in a manner, with",
            ),
            source=_WORDNET,
            licence="WordNet 3.0",
            pack="wordnet_pos",
        ),
        TextTask(
            name="sentiment",
            title="Polarity of a word rated by people",
            classes=("negative", "positive"),
            prompts=("bad", "good"),
            source="vaderSentiment lexicon (Hutto and Gilbert, 2014)",
            licence="MIT",
            pack="vader_sentiment",
        ),
    )
}  # fmt: skip


def read(task: TextTask, split: Split) -> tuple[list[str], list[int]]:
    """Texts and labels of one split."""
    table = pq.read_table(_PACKS / f"{task.pack}.parquet", columns=["text", "label"], filters=[("split", "==", split)])
    return table["text"].to_pylist(), table["label"].to_pylist()


def dataset(task: TextTask, split: Split) -> Dataset:
    """One split with the columns ``text`` and ``label`` (a ``ClassLabel``)."""
    from datasets import ClassLabel, Dataset, Features, Value

    texts, labels = read(task, split)
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(task.classes))})
    return Dataset.from_dict({"text": texts, "label": labels}, features=features)


def digest() -> str:
    """SHA-256 over the packs and the prompts: what a fine-tuned model depends on besides base and recipe."""
    total = hashlib.sha256()
    for task in TASKS.values():
        total.update((_PACKS / f"{task.pack}.parquet").read_bytes())
        total.update("\n".join(task.prompts).encode())
    return total.hexdigest()
