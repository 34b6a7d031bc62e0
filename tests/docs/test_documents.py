"""What the documents name is there: links, anchors, files, commands, players; and the generated page is up to date."""

import importlib.util
import re
import shlex
from functools import cache
from itertools import count
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import mergearena
from mergearena.bench.cli.main import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", ".github/**/*.md", "bench/suites/data/**/*.md")
    for path in ROOT.glob(pattern)
)
TOP = ("attacks", "bench", "defenses", "docs", "leaderboard", "mergearena", "tests")
MADE_LATER = ("leaderboard/submissions",)
"""Folders that a clone need not have."""

FENCE = re.compile(r"^ *```.*?^ *```", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")
LITERAL = re.compile(r"`([^`\n]+)`")
TYPED = re.compile(r"^ *(mergearena .*?)$(?<!\\)", re.M)


def named(path):
    return path.relative_to(ROOT).as_posix()


def prose(path):
    """The text without code."""
    return LITERAL.sub("", FENCE.sub("", path.read_text(encoding="utf-8")))


@cache
def anchors(path):
    """The anchors of a document's headings, as GitHub and the site make them."""
    found = set()
    for line in re.findall(r"^#+ +(.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.M):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", line).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.add(next(name for i in count() if (name := f"{slug}-{i}" if i else slug) not in found))
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_link_leads_somewhere(path):
    for link in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", link):
            continue  # another site
        target, _, anchor = link.partition("#")
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), f"{named(path)} links to {link}"
        assert not anchor or anchor in anchors(there), f"{named(path)} links to {link}, which has no such heading"


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_file_that_is_named_exists(path):
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for name in LITERAL.findall(text):
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", name) and name.split("/")[0] in TOP and "/" in name:
            assert name in MADE_LATER or (ROOT / name).exists(), f"{named(path)} names {name}"
    for name, symbol in re.findall(r"`([\w/]+\.py)`: `(\w+)`", text):
        assert re.search(rf"\b{symbol}\b", (ROOT / name).read_text(encoding="utf-8")), f"{name} has no {symbol}"


def test_the_architecture_names_every_room():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = [f"bench/{init.parent.name}/" for init in sorted(ROOT.glob("bench/*/__init__.py"))]
    assert [room for room in [*rooms, "attacks/", "defenses/", "leaderboard/"] if f"| `{room}` |" not in text] == []


def typed():
    """(document, command) of everything that starts with ``mergearena``, in code of any kind."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        joined = [fence.replace("\\\n", " ") for fence in FENCE.findall(text)]
        spans = [span for span in LITERAL.findall(FENCE.sub("", text.replace("\n", " "))) if " " in span]
        for command in [line for fence in joined for line in TYPED.findall(fence)] + spans:
            if command.startswith("mergearena "):
                yield named(path), command


@pytest.mark.parametrize(("path", "command"), sorted(set(typed())))
def test_every_command_exists(path, command):
    at = typer.main.get_command(app)
    words = iter(shlex.split(command, comments=True)[1:])
    options = {}
    for word in words:
        options |= {name: p for p in at.params for name in (*p.opts, *p.secondary_opts)}
        if word.startswith("--"):
            name = word.partition("=")[0]
            assert name in options or name == "--help", f"{path}: {command}: no {name}"
            if name in options and not getattr(options[name], "is_flag", False):
                next(words, None)
        elif hasattr(at, "commands"):
            if word in ("...", "FILE", "NAME"):
                return
            assert word in at.commands, f"{path}: {command}: no {word}"
            at = at.commands[word]


@cache
def generator():
    spec = importlib.util.spec_from_file_location("methods", ROOT / "docs/generate/methods.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_methods_is_what_the_registry_says():
    assert (ROOT / "docs/methods.md").read_text(encoding="utf-8") == generator().page(), "run `make docs`"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("By s_i * x_i:\n\n        y = s * x\n\n    _So._\n", "By s_i \\* x_i:\n\n    y = s * x\n\n\\_So.\\_"),
        (
            "Theta = argmin L, c = ``clean``\n\nBy ``clean``\nonly.",
            "    theta = argmin L, c = clean\n\nBy `clean` only.",
        ),
        ("Keeps *all* of it, s <= 0, see :func:`bench.x.read`.", "Keeps *all* of it, s &lt;= 0, see `read`."),
    ],
)
def test_a_docstring_becomes_markdown(text, shown):
    assert generator().prose(text) == shown


def test_options_say_what_they_may_be():
    assert generator().values({"type": "number", "exclusiveMinimum": 0, "maximum": 1}) == "number > 0, ≤ 1"
    assert generator().values({"anyOf": [{"type": "integer"}, {"type": "null"}]}) == "integer or `null`"
    assert generator().values({"enum": ["a", "b"]}) == "`a`, `b`"


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 90


def test_the_readme_s_script_has_five_lines_and_names_what_there_is():
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert len([line for line in script.splitlines() if line.strip()]) == 5
    compile(script, "README.md", "exec")
    for name in re.findall(r"mergearena\.(\w+)", script):
        assert hasattr(mergearena, name), f"mergearena has no {name}"


def test_one_version_everywhere():
    version = mergearena.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert version in CliRunner().invoke(app, ["--version"]).output


def test_the_site_has_every_document():
    yaml = pytest.importorskip("yaml")
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def parts(nav):
        for entry in nav:
            for value in entry.values():
                yield from parts(value) if isinstance(value, list) else [value]

    written = {named(path) for path in DOCUMENTS if path.parent in (ROOT, ROOT / "docs")}
    assert set(parts(settings["nav"])) == written


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/[0-9]*.yml")), ids=named)
def test_issue_forms_have_the_shape_that_is_asked_for(path):
    yaml = pytest.importorskip("yaml")
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    ids = [part["id"] for part in form["body"]]
    assert len(set(ids)) == len(ids)
    for part in form["body"]:
        assert part["type"] in ("textarea", "input", "dropdown", "checkboxes")
        assert part["attributes"]["label"]
        assert part["type"] not in ("dropdown", "checkboxes") or part["attributes"]["options"]
