"""An identity changes with the code that decides a player's outcome, and with nothing else."""

import ast
import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergearena.bench.errors import ArenaError
from mergearena.bench.players.identity import HOUSE, forget_sources, identity, identity_of_file

TREE = {
    "attacks/__init__.py": "from mergearena.bench.players.registry import register\nmerger = register('merge')",
    "attacks/merge/__init__.py": '"""Merges."""',
    "attacks/merge/ties.py": """
        from mergearena import attacks
        from mergearena.attacks.merge.scaled import Scaled
        from mergearena.bench.merging.kernels import ties

        @attacks.merger("ties")
        class Ties(Scaled):
            def combine(self, vectors):
                return ties(vectors, 0.2)
    """,
    "attacks/merge/scaled.py": "class Scaled:\n    pass",
    "attacks/merge/free.py": "def free(view, *, share: float = 0.5):\n    return view.base",
    "attacks/align/heads.py": "from mergearena.bench.symmetry.architecture import of\n\ndef align(view):\n    of(view)",
    "bench/merging/__init__.py": '"""Kernels."""',
    "bench/merging/kernels.py": "from mergearena.bench.merging.vectors import read\nPIECE = 512\n\ndef ties(): read()",
    "bench/merging/vectors.py": "def read():\n    return 1",
    "bench/players/registry.py": "def register(kind): ...",
    "bench/symmetry/architecture.py": """
        from mergearena.bench.symmetry.families import FAMILIES

        def of(model):
            return FAMILIES[model]
    """,
    "bench/symmetry/families/__init__.py": """
        from mergearena.bench.symmetry.families import bert, open_clip
        FAMILIES = {"open_clip": open_clip, "bert": bert}
    """,
    "bench/symmetry/families/open_clip.py": "from mergearena.bench.symmetry.families import parts",
    "bench/symmetry/families/bert.py": "from mergearena.bench.symmetry.families.parts import layer",
    "bench/symmetry/families/parts.py": "def layer():\n    return 1",
}
TIES, FREE, HEADS = "mergearena.attacks.merge.ties", "mergearena.attacks.merge.free", "mergearena.attacks.align.heads"


class Place:
    """A house of made-up files."""

    def __init__(self, root: Path, files: dict[str, str]) -> None:
        self.root = root
        for name, text in files.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        forget_sources()
        return path

    def of(self, module: str, *families: str) -> str:
        return identity(module, families, self.root)

    def text(self, text: str) -> str:
        """The identity of a module of that text."""
        self.write("attacks/made.py", text)
        return self.of("mergearena.attacks.made")

    def depends(self, text: str, name: str = "bench/merging/kernels.py") -> bool:
        """Whether a module of that text has another identity once another module has changed."""
        before, old = self.text(text), (self.root / name).read_text()
        self.write(name, f"{old}\nCHANGED = True")
        after = self.of("mergearena.attacks.made")
        self.write(name, old)
        assert self.of("mergearena.attacks.made") == before
        return after != before


@pytest.fixture
def place(tmp_path):
    yield Place(tmp_path, TREE)
    forget_sources()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    yield Place(tmp_path_factory.mktemp("house"), TREE)
    forget_sources()


def test_a_kernels_change_reaches_its_users_only(place):
    ties, free = place.of(TIES), place.of(FREE)
    place.write("bench/merging/kernels.py", TREE["bench/merging/kernels.py"].replace("512", "513"))
    assert place.of(TIES) != ties
    assert place.of(FREE) == free


@pytest.mark.parametrize("name", ["attacks/merge/scaled.py", "bench/merging/vectors.py", "attacks/__init__.py"])
def test_imports_are_followed_on_and_on(place, name):
    ties = place.of(TIES)
    place.write(name, f"{TREE[name]}\nMORE = 1")
    assert place.of(TIES) != ties


def test_whoever_reads_an_architecture_uses_the_symmetry_map_and_the_family_in_use(place):
    place.write("attacks/viewed.py", "def align(view):\n    return view.suite.architecture.mlps")
    viewed, free = "mergearena.attacks.viewed", place.of(FREE, "bert")
    before = place.of(viewed, "bert")
    for name in ("architecture.py", "families/bert.py", "families/parts.py"):
        text = textwrap.dedent(TREE[f"bench/symmetry/{name}"])
        place.write(f"bench/symmetry/{name}", f"{text}\nMORE = 1")
        before, earlier = place.of(viewed, "bert"), before
        assert before != earlier, name
    place.write("bench/symmetry/families/open_clip.py", "MORE = 1")
    assert place.of(viewed, "bert") == before
    assert place.of(FREE, "bert") == free


def test_a_plug_in_that_is_edited_has_another_identity_in_the_same_process(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("x = 1")
    before = identity_of_file(path)
    path.write_text("x = 2")
    assert identity_of_file(path) != before


def test_other_packages_and_the_packages_above_are_not_followed(place):
    ties = place.of(TIES)
    for name in ("bench/players/registry.py", "bench/merging/__init__.py", "attacks/merge/__init__.py"):
        place.write(name, "MORE = 1")
    assert place.of(TIES) == ties


SAME = {
    "comments": ("x = 1", "# why\nx = 1  # what"),
    "formatting": ("x = f(1,\n  'a')\ny = 2", 'x=f( 1, "a" , )\n\n\ny = (2)'),
    "a module's docstring": ("x = 1", '"""Doc."""\nx = 1'),
    "a class's docstring": ("class A:\n x = 1", 'class A:\n """Doc."""\n x = 1\n """Its doc."""'),
    "a docstring for pass": ("class A(E): pass", 'class A(E):\n """Doc."""'),
    "a function's docstring": ("def f(): return 1", 'def f():\n """Doc."""\n return 1'),
    "arguments' annotations": ("def f(a, *b, c=1, **d): g()", "def f(a: A, *b: B, c: C=1, **d: D) -> R: g()"),
    "variables' annotations": ("x = 1\ndef f():\n y = 2", "x: int = 1\ndef f():\n y: int = 2\n z: int"),
    "a method's annotations": ("class A:\n def f(self):\n  x = 1", "class A:\n def f(self: S):\n  x: X = 1"),
    "futures": ("x = 1", "from __future__ import annotations\nx = 1"),
    "imports' order": ("import a\nfrom b import c, d\na(c, d)", "from b import d\nfrom b import c\nimport a\na(c, d)"),
    "unused imports": ("x = 1", "import os\nfrom typing import Any\nx: Any = 1"),
    "code for type checkers": ("x = 1", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n y = 2\nx = 1"),
    "typing's name in full": ("x = 1", "import typing\nif typing.TYPE_CHECKING:\n y = 2\nelse:\n x = 1"),
    "how an import is spelled": ("import a.b as b\nb()", "from a import b\nb()"),
    "relative imports": ("from mergearena.attacks import x\nx()", "from . import x\nx()"),
}
DIFFERENT = {
    "a constant": ("x = 1", "x = 2"),
    "a constant's type": ("x = 1", "x = 1.0"),
    "none": ("match x:\n case None: f()", "match x:\n case True: f()"),
    "a string": ("x = ''", "x = '[]'"),
    "a default": ("def f(x=1): g()", "def f(x=2): g()"),
    "statements' order": ("f()\ng()", "g()\nf()"),
    "a field's default": ("class A:\n x: int = 1", "class A:\n x: int = 2"),
    "a field's bound": ("class A:\n x: Annotated[int, Ge(0)] = 1", "class A:\n x: Annotated[int, Ge(1)] = 1"),
    "what is a field": ("class A:\n x = 1", "class A:\n x: int = 1"),
    "a field in a function's class": ("def f():\n class A:\n  x: int", "def f():\n class A:\n  x: str"),
    "a field's origin": ("from a import X\nclass A:\n x: X", "from b import X\nclass A:\n x: X"),
    "a name's origin": ("from a import f\nf()", "from b import f\nf()"),
    "a name's former name": ("from a import f\nf()", "from a import g as f\nf()"),
    "an export's origin": ("from a import f\n__all__ = ['f']", "from b import f\n__all__ = ['f']"),
    "all of a module": ("from a import *", "from b import *"),
    "where an import stands": ("def f():\n import a\na()", "import a\ndef f(): pass\na()"),
    "the other branch": ("if TYPE_CHECKING:\n x = 1\nelse:\n x = 2", "if TYPE_CHECKING:\n x = 1\nelse:\n x = 3"),
    "a decorator": ("@a\ndef f(): g()", "@b\ndef f(): g()"),
    "await": ("def f(): g()", "async def f(): g()"),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_what_decides_nothing_does_not_count(place, one, other):
    assert place.text(one) == place.text(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_decides_something_counts(place, one, other):
    assert place.text(one) != place.text(other)


def test_what_a_package_passes_on_counts(place):
    text = "from mergearena.bench.merging import ties"
    place.write("bench/merging/__init__.py", "from mergearena.bench.files.one import ties")
    before = place.text(text)
    place.write("bench/merging/__init__.py", "from mergearena.bench.files.other import ties")
    assert place.text(text) != before


@pytest.mark.parametrize(
    "text",
    [
        "import mergearena.bench.merging.kernels",
        "import mergearena.bench.merging.kernels as k",
        "from mergearena.bench.merging.kernels import ties",
        "from mergearena.bench.merging.kernels import *",
        "from mergearena.bench.merging import kernels",
        "from mergearena.bench import merging\nmerging.kernels.ties()",
        "import mergearena\nmergearena.bench.merging.kernels.ties()",
        "import mergearena.attacks\nmergearena.bench.merging.kernels.ties()",
        "from mergearena import bench as b\nb.merging.kernels.ties()",
        "from ..bench.merging.kernels import ties",
        "from ..bench.merging import kernels",
        "def f():\n from mergearena.bench.merging.kernels import ties",
        "try:\n from mergearena.bench.merging.kernels import ties\nexcept ImportError: pass",
        "if TYPE_CHECKING: pass\nelse:\n from mergearena.bench.merging.kernels import ties",
        "from mergearena.attacks.merge.ties import Ties",
    ],
)
def test_every_form_of_import_is_followed(place, text):
    assert place.depends(text)


@pytest.mark.parametrize(
    "text",
    [
        "if TYPE_CHECKING:\n from mergearena.bench.merging.kernels import ties",
        "from mergearena.bench.merging.vectors import kernels",
        "from mergearena.bench.merging import unknown",
        "from other.bench.merging.kernels import ties",
        "from mergearena.bench.games.base import ties",
        "import mergearena\ndef f(x: mergearena.bench.merging.kernels.ties): g()",
    ],
)
def test_what_is_not_imported_is_not_followed(place, text):
    assert not place.depends(text)


def test_a_submodule_and_its_package_both_count_when_imported_from(place):
    assert place.depends("from mergearena.bench.merging import kernels", "bench/merging/__init__.py")
    assert not place.depends("import mergearena.bench.merging.kernels", "bench/merging/__init__.py")


def test_circles_end_and_count_whole(place):
    for one, other in ("ab", "ba"):
        place.write(f"attacks/{one}.py", f"import mergearena.attacks.{other}\nX = 1")
    before = place.of("mergearena.attacks.a"), place.of("mergearena.attacks.b")
    place.write("attacks/b.py", "import mergearena.attacks.a\nX = 2")
    after = place.of("mergearena.attacks.a"), place.of("mergearena.attacks.b")
    assert not set(before) & set(after)


def test_of_the_families_the_one_in_use_counts(place):
    before = {family: place.of(HEADS, family) for family in ("open_clip", "bert")}
    place.write("bench/symmetry/families/open_clip.py", "X = 1")
    assert place.of(HEADS, "bert") == before["bert"]
    assert place.of(HEADS, "open_clip") != before["open_clip"]
    place.write("bench/symmetry/families/parts.py", "X = 1")
    assert place.of(HEADS, "bert") != before["bert"]


def test_a_new_family_does_not_count(place):
    before = place.of(HEADS, "open_clip")
    place.write("bench/symmetry/families/llama.py", "X = 1")
    place.write("bench/symmetry/families/__init__.py", "from mergearena.bench.symmetry.families import llama")
    assert place.of(HEADS, "open_clip") == before


def test_families_do_not_count_where_none_is_imported(place):
    assert place.of(TIES, "open_clip") == place.of(TIES, "bert") == place.of(TIES)
    assert (
        place.of(HEADS, "open_clip", "parts") == place.of(HEADS, "parts", "open_clip") == place.of(HEADS, "open_clip")
    )


def test_a_plug_in_has_the_identity_of_what_it_holds_and_imports(place, tmp_path):
    def of(name: str, text: str) -> str:
        return identity_of_file(place.write(f"plugins/{name}.py", text), (), tmp_path)

    text = "from mergearena.bench.merging.kernels import ties\ndef mine(v): return ties(v)"
    before = of("mine", text)
    assert of("elsewhere/yours", f"# copied\n{text}") == before
    assert of("mine", text.replace("ties(v)", "ties(2 * v)")) != before
    place.write("bench/merging/vectors.py", "X = 1")
    assert of("mine", text) != before


def test_what_is_not_found_is_named(place, tmp_path):
    with pytest.raises(ArenaError, match=r"mergearena\.attacks\.nothing: its source is not found"):
        place.of("mergearena.attacks.nothing")
    with pytest.raises(ArenaError, match="no_such_package: its source is not found"):
        place.of("no_such_package")
    with pytest.raises(ArenaError, match=r"made\.py: imports mergearena\.bench\.merging\.nothing, which is not found"):
        place.text("from mergearena.bench.merging.nothing import f")
    with pytest.raises(ArenaError, match=r"no module mergearena\.bench\.symmetry\.families\.nothing"):
        place.of(HEADS, "nothing")
    with pytest.raises(ArenaError, match=r"nothing\.py: not readable as Python: FileNotFoundError"):
        identity_of_file(tmp_path / "nothing.py", (), tmp_path)


@pytest.mark.parametrize("text", ["def", "x = '\0'", "-" * 5000 + "1", "x" + ".y" * 5000, f"x = 0x{'f' * 9000}"])
def test_what_does_not_parse_is_named(place, text):
    with pytest.raises(ArenaError, match=r"made\.py: not readable as Python"):
        place.text(text)


def test_other_peoples_modules_are_found_where_they_were_imported_from(tmp_path, monkeypatch):
    place = Place(tmp_path, {**TREE, "theirs_of_identity.py": "from mergearena.bench.merging.kernels import ties"})
    monkeypatch.syspath_prepend(tmp_path)
    module = type(sys)("theirs_of_identity")
    module.__file__ = str(tmp_path / "theirs_of_identity.py")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    before = place.of(module.__name__)
    place.write("bench/merging/kernels.py", "X = 1")
    assert place.of(module.__name__) != before


def test_the_hash_is_of_the_spelled_out_tree_and_so_the_same_in_every_python(place):
    x = "Name(id='x')"
    inner = f"JoinedStr(values=[FormattedValue(value={x},conversion=-1)])"  # Python 3.12 has an empty constant more
    text = f"JoinedStr(values=[FormattedValue(value={x},conversion=-1,format_spec={inner})])"
    call = f"Call(func={x},args=[Constant(value=1),{text}])"
    digest = hashlib.sha256(f"Module(body=[x<-a.x,Assign(targets=[Name(id='y')],value={call})])".encode()).hexdigest()
    expected = hashlib.sha256(f"mergearena.attacks.made {digest}".encode()).hexdigest()
    assert place.text("import os\nfrom a import x\ny = x(1, f'{x:{x}}')") == expected


def test_the_order_of_sets_does_not_count(place):
    code = "import sys, pathlib; from mergearena.bench.players.identity import identity as i; \
            print(i(sys.argv[1], ['bert', 'open_clip'], pathlib.Path(sys.argv[2])))"
    for seed in "12":
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code, HEADS, str(place.root)]
        printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        assert printed.strip() == place.of(HEADS, "bert", "open_clip")


LINES = st.sampled_from(["x = 1", "x: int = -1.5e3", 'x = f"{y!r:>{w}} {z}"', "del x", "x @= y ** -z", '"""Text."""'])
HEADERS = st.sampled_from(
    [
        "def f(a: int, /, b=1, *c, d: str = 'x', **e) -> None:",
        "async def f():",
        "@decorated(1)\ndef f():",
        "class A(B, c=1):",
        "if x:",
        "if TYPE_CHECKING:",
        "for i in *a, b:",
        "with a as b, c:",
    ]
)


def indented(pair: tuple[str, list[str]]) -> str:
    return f"{pair[0]}\n{textwrap.indent(chr(10).join(pair[1]), ' ')}"


STATEMENTS = st.recursive(
    LINES, lambda inner: st.tuples(HEADERS, st.lists(inner, min_size=1, max_size=3)).map(indented)
)
MODULES = st.lists(STATEMENTS, max_size=4)


@settings(max_examples=40, deadline=None)
@given(MODULES)
def test_unparsing_keeps_the_identity(shared, statements):
    text = "\n".join(statements)
    assert shared.text(ast.unparse(ast.parse(text))) == shared.text(text)


@settings(max_examples=40, deadline=None)
@given(MODULES, st.data())
def test_comments_and_blank_lines_between_any_two_lines_keep_the_identity(shared, statements, data):
    lines = "\n".join(statements).split("\n")
    noise = data.draw(st.lists(st.sampled_from(["", "# x = 2\n", "\n\n"]), min_size=len(lines), max_size=len(lines)))
    noisy = "\n".join(before + line for before, line in zip(noise, lines, strict=True))
    assert shared.text(noisy) == shared.text("\n".join(lines))


CONSTANTS = st.none() | st.booleans() | st.integers() | st.floats(0, allow_nan=False) | st.text() | st.binary()


@settings(max_examples=40, deadline=None)
@given(CONSTANTS, CONSTANTS)
def test_constants_have_the_same_identity_if_they_are_written_the_same(shared, one, other):
    one, other = (ast.unparse(ast.Constant(value)) for value in (one, other))
    same = ast.dump(ast.parse(one)) == ast.dump(ast.parse(other))
    assert (shared.text(f"x = {one}") == shared.text(f"x = {other}")) == same


@pytest.fixture
def copy(tmp_path):
    """This project's own sources."""
    for folder in ("attacks", "defenses", "bench/learning", "bench/merging", "bench/symmetry"):
        shutil.copytree(HOUSE / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    yield Place(tmp_path, {})
    forget_sources()


def identities(place: Place) -> dict[str, str]:
    files = [
        path.relative_to(place.root) for side in ("attacks", "defenses") for path in (place.root / side).rglob("*.py")
    ]
    modules = [f"mergearena.{'.'.join(file.with_suffix('').parts)}" for file in files if file.name != "__init__.py"]
    return {module: place.of(module, "open_clip") for module in modules}


def test_the_projects_own_players_have_identities_wherever_they_lie(copy):
    found = identities(copy)
    assert found == {module: identity(module, ["open_clip"]) for module in found}
    assert len(set(found.values())) == len(found) > 50


def test_a_new_family_and_rewritten_text_leave_every_own_player_as_it_is(copy):
    before = identities(copy)
    families = copy.root / "bench/symmetry/families"
    copy.write("bench/symmetry/families/new.py", "X = 1")
    (families / "__init__.py").write_text(f"{(families / '__init__.py').read_text()}\nfrom . import new\n")
    (families / "bert.py").write_text("X = 1")
    for path in copy.root.rglob("*.py"):
        path.write_text(f"# Rewritten.\n{ast.unparse(ast.parse(path.read_text()))}\n")
    forget_sources()
    assert identities(copy) == before


def test_an_own_kernels_change_reaches_the_merges_that_use_it(copy):
    before = identities(copy)
    kernels = copy.root / "bench/merging/kernels.py"
    copy.write("bench/merging/kernels.py", f"{kernels.read_text()}\nX = 1\n")
    changed = {module for module, now in identities(copy).items() if now != before[module]}
    assert "mergearena.attacks.merge.ties" in changed
    assert "mergearena.attacks.align.identity" not in changed
