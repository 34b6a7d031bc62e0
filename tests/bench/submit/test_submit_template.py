"""Templates: short, valid, refused where they would overwrite."""

import ast
import subprocess
import sys

import pytest

from mergearena.bench.errors import ArenaError
from mergearena.bench.submit import template
from paths import ROOT

KINDS = ["defense", "align", "merge", "recover", "safe-merge", "contributor"]


@pytest.mark.parametrize("as_class", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_template_has_at_most_forty_lines_and_would_pass_this_projects_linter(kind, as_class, tmp_path):
    path = template.write(kind, "my-own", as_class, tmp_path)
    text = path.read_text()
    assert path.name == "my_own.py"
    assert len(text.splitlines()) <= 40
    names = [node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert names == ["MyOwn" if as_class else "my_own"]
    config = ROOT / "pyproject.toml"
    subprocess.run([sys.executable, "-m", "ruff", "check", "--config", config, path], check=True, capture_output=True)


def test_a_template_overwrites_nothing(tmp_path):
    (tmp_path / "my_own.py").write_text("mine")
    with pytest.raises(ArenaError, match=r"my_own\.py exists already"):
        template.write("defense", "my-own", False, tmp_path)
    assert (tmp_path / "my_own.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "says"), [("params", "'params' is taken"), ("My Own", "lower-case words"), ("../x", "lower-case words")]
)
def test_a_name_that_cannot_be_registered_is_refused(name, says, tmp_path):
    with pytest.raises(ArenaError, match=says):
        template.write("defense", name, False, tmp_path)
    assert not list(tmp_path.iterdir())
