"""Write ``docs/methods.md``: every registered player with its equation, paper, tier and options.

``python docs/generate/methods.py`` writes the file; a test compares it with :func:`page`. What is said of a player is
its docstring and its options, so that the page cannot know better than the code.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mergearena.bench.errors import BadConfig
from mergearena.bench.games.protection.presets import AUTO, AUTO_NAME
from mergearena.bench.players.options import options_of
from mergearena.bench.players.player import Player, spelled
from mergearena.bench.players.registry import registry
from mergearena.bench.players.stages import Stage

PATH = Path(__file__).parents[1] / "methods.md"
HEAD = """# Methods

Every player of this project: what it computes, from which paper, in which tier, with which options. Written by
`make docs` from docstrings and configs; `mergearena show NAME` prints the same of one player. How players
meet is in [the rules](rules.md), what they reach in [the results](results.md). theta0 is the public base, tau = theta -
theta0 a task vector, and a player without a paper is ours.

An option is given in brackets, as in `ties(density=0.2)`. A tier with a + rises with some options.
"""
SECTIONS = (
    ("Defenses", "Rewrite a victim before release; chained with `+`.", "defense"),
    ("Aligners", "First stage of an attack: move the released model back towards the base; chained with `+`.", "align"),
    (
        "Merges",
        "Second stage of an attack, and mergers of the backdoor track unless they need labels: one model of several.",
        "merge",
    ),
    ("Recoveries", "Last stage of an attack: make the merged model better; chained with `+`.", "recover"),
    (
        "Whole attacks and baselines",
        "In one piece. Baselines never touch the released model, and set the floor.",
        "attack",
    ),
    ("Malicious contributors", "Backdoor track: poison the models that they upload.", "backdoor"),
    ("Safe merges", "Backdoor track: merges that are to survive malicious uploads.", "sanitize"),
    ("Repairs", "Backdoor track: take a backdoor out of what was merged; chained with `+`.", "repair"),
)
_LITERAL = re.compile(r"(``.+?``|`[^`]+`|(?<![\w*])\*\w[\w ]*\*(?![\w*]))", re.S)
"""Code, and words between asterisks: they stay as they are."""
_ROLE = re.compile(r":\w+:`~?(?:[\w.]+\.)?(\w+)`")
_PAPER = re.compile(r"arXiv (\d{4}\.\d{4,5})")
_BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
_TRAITS = {
    "preserves_function": "claims to keep the function",
    "deterministic": "draws nothing",
    "extraction": "an extraction",
    "off_task": "off-task",
}

GLOSSARY = {
    "steps": "Steps of the optimisation.",
    "lr": "Learning rate.",
    "batch_size": "Examples in a batch.",
    "patch": "Share of the picture that the trigger covers.",
    "ascent": "Steps of the search for the trigger.",
    "ascents": "Steps up the perturbation's gradient, per step.",
    "radius": "Of the ball of perturbations.",
    "norm": "Of the ball of perturbations.",
}
"""What options are for that go by the same name everywhere, where a player's docstring does not name them."""
_FORMULA = re.compile(r"[\w.]+(?: \.\. [\w.]+)? = ")
_UPDATE = re.compile(r"\w+ <- ")


def page() -> str:
    """The whole page."""
    own = [player for player in registry.players() if _path(player).exists()]
    parts = [HEAD]
    for title, what, kind in SECTIONS:
        here = [player for player in own if player.kind == kind]
        names = ", ".join(f"[{player.name}](#{_anchor(player.name)})" for player in here)
        parts.append(f"## {title}\n\n{what}\n\n{names}\n")
        parts += map(_entry, here)
        if kind == "attack":
            parts.append(_auto())
    return "\n".join(parts)


def _entry(player: type[Player]) -> str:
    return f"### {player.name}\n\n{' · '.join(_facts(player))}\n\n{prose(player.__doc__ or '')}\n\n{_options(player)}"


def _facts(player: type[Player]) -> Iterator[str]:
    """Tier, cost class, claims, paper and file."""
    if issubclass(player, Stage):
        yield f"tier {_tier(player)}"
        yield f"cost class {player.cost_class}"
    yield from (words for trait, words in _TRAITS.items() if getattr(player, trait, False))
    if getattr(player, "uses_victim", True) is False:
        yield "baseline"
    if (uploads := getattr(player, "uploads", 1)) > 1:
        yield f"needs {uploads} uploads"
    yield _PAPER.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", _escaped(player.paper)) or "ours"
    yield f"`{_path(player).relative_to(PATH.parents[1]).as_posix()}`"


def _tier(player: type[Stage]) -> str:
    try:
        tier = player().tier
    except BadConfig:  # an option has no default
        tier = player.base_tier
    return f"{tier}{'' if player.tier is Stage.tier else '+'}"


def _path(player: type[Player]) -> Path:
    """The file that a player of this project is defined in."""
    return PATH.parents[1].joinpath(*player.__module__.removeprefix("mergearena.").split(".")).with_suffix(".py")


def _options(player: type[Player]) -> str:
    options = options_of(player)
    if not options:
        return "No options.\n"
    allowed = player.Config.model_json_schema()["properties"]
    lines = ["| option | default | values | meaning |", "|---|---|---|---|"]
    for name, option in options.items():
        default = option.default if option.required else f"`{option.default}`"
        named = f"`{name}`" in (player.__doc__ or "") or name not in GLOSSARY
        meaning = prose(option.meaning) if option.meaning else "see above" if named else GLOSSARY[name]
        cells = f"`{name}`", default, values(allowed[name]), " ".join(meaning.split())
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def values(schema: Mapping[str, Any]) -> str:
    """What an option may be, of its JSON Schema: ``number > 0, ≤ 1``."""
    if "anyOf" in schema:
        return " or ".join(map(values, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{spelled(value)}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") in ("boolean", "null"):
        return "`true`, `false`" if schema["type"] == "boolean" else "`null`"
    bounds = ", ".join(f"{sign} {schema[key]:g}" for key, sign in _BOUNDS.items() if key in schema)
    return f"{schema.get('type', 'any')} {bounds}".strip().replace("<", "&lt;")


def prose(text: str) -> str:
    """A docstring as Markdown: paragraphs on one line each, formulas as they are, literals in single backticks."""
    text = re.sub(r"^Theta(?=\w* (?:=|\.\.))", "theta", inspect.cleandoc(text))  # docstrings begin with a capital
    blocks = re.split(r"\n\s*\n", text)
    return "\n\n".join(_block(block, first=i == 0) for i, block in enumerate(blocks))


def _block(block: str, first: bool) -> str:
    """One paragraph or formula."""
    if block.startswith("    "):
        return block.replace("``", "")
    if _is_formula(block, first):
        return "\n".join(f"    {line}" for line in block.replace("``", "").splitlines())
    lines = [line.strip() for line in block.splitlines()]
    text = _ROLE.sub(r"``\1``", ("\n" if lines[0].startswith("- ") else " ").join(lines))
    parts = _LITERAL.split(text)
    return "".join(part.replace("``", "`") if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _is_formula(block: str, first: bool) -> bool:
    """Whether a block is one without being indented: an update, or an equation that a docstring begins with."""
    if block.endswith(":"):
        return False
    worded = "\n" not in block and re.search(r"[:;] [a-z]", block)
    return bool(_UPDATE.match(block) or (first and _FORMULA.match(block) and not worded))


def _escaped(text: str) -> str:
    """What Markdown would take for a mark or a tag, save underscores inside words."""
    return re.sub(r"(\*|(?<!\w)_|_(?!\w))", r"\\\1", text.replace("<", "&lt;"))


def _anchor(name: str) -> str:
    return re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-")


def _auto() -> str:
    steps = "\n".join(f"{number}. `{step}`" for number, step in enumerate(AUTO, start=1))
    cascade = "a cascade that goes on while anything is left to recover ([rules](rules.md#auto-the-cascade))"
    return f"### {AUTO_NAME}\n\nThe standard ensemble: {cascade}.\n\n{steps}\n"


if __name__ == "__main__":
    PATH.write_text(page(), encoding="utf-8")
