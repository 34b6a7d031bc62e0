"""Everything is imported below ``mergearena``, whatever else the working directory or the index calls itself."""

import importlib
import os
import subprocess
import sys
import zipfile

import pytest

from mergearena.bench.errors import ArenaError
from mergearena.bench.players.former import MODULES, NAMES
from mergearena.bench.players.plugins import load_plugin
from paths import ROOT

FORMER = ("attacks", "bench", "defenses", "leaderboard")


def run(*command, cwd, **environment):
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def squatted(tmp_path):
    """A working directory with folders and files of the names that the project's parts once had."""
    for name in FORMER[:2]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the working directory was imported')\n")
    for name in FORMER[2:]:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the working directory was imported')\n")
    return tmp_path


def test_other_code_of_the_former_names_is_left_alone(squatted):
    done = run("-m", "mergearena.bench", "list", "defenses", cwd=squatted)
    assert done.returncode == 0, done.stderr
    assert "params" in done.stdout
    assert "could not be imported" not in done.stdout


def test_the_former_names_cannot_be_imported(tmp_path):
    for name in FORMER:
        done = run("-c", f"import mergearena, {name}", cwd=tmp_path)
        assert f"No module named '{name}'" in done.stderr


def test_transformers_and_open_clip_can_be_imported_after_it(tmp_path):
    program = (
        "import mergearena, sys\nassert 'torch' not in sys.modules\n"
        "import transformers\nfrom transformers import BertModel, CLIPImageProcessor\nimport open_clip, torchvision"
    )
    done = run("-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("statement", "remedy"),
    [
        ("import defenses", "from mergearena import defenses"),
        ("import attacks", "from mergearena import attacks"),
        ("import bench.scoring", "from mergearena.bench.games.protection import scoring"),
        ("from bench import merging", "from mergearena.bench.merging import kernels"),
        ("from bench.game import Merge", "from mergearena.bench.players.stages import Merge"),
        ("from bench.game import AttackConfig, Tier", "from mergearena.bench.players.player import AttackConfig"),
        ("def late():\n    from leaderboard.board import Part", "from mergearena.leaderboard.board import Part"),
    ],
)
def test_a_plugin_that_imports_a_former_name_is_told_the_new_one(tmp_path, statement, remedy):
    path = tmp_path / "mine.py"
    path.write_text(f'"""Mine."""\nimport torch\n{statement}\n')
    with pytest.raises(ArenaError) as caught:
        load_plugin(path)
    assert f"write `{remedy}`" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", sorted({*MODULES.values(), *NAMES.values()}))
def test_what_a_remedy_names_is_there(module):
    found = importlib.import_module(f"mergearena.bench.{module}")
    assert all(hasattr(found, name) for name, where in NAMES.items() if where == module)


def test_a_plugin_may_have_names_that_begin_like_a_former_one(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import benchmarks_of_mine\n")
    with pytest.raises(ArenaError, match="No module named 'benchmarks_of_mine'"):
        load_plugin(path)


@pytest.mark.slow
def test_a_wheel_installs_one_name_and_works_without_the_checkout(squatted, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    built = run("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(ROOT), cwd=out)
    assert built.returncode == 0, built.stderr
    (wheel,) = out.glob("*.whl")
    site = out / "site"
    zipfile.ZipFile(wheel).extractall(site)
    assert {path.name.partition("-")[0] for path in site.iterdir()} == {"mergearena"}
    program = (
        "import mergearena, mergearena.bench.errors as e; assert 'site' in e.__file__, e.__file__\n"
        "suite = mergearena.load_suite()\n"
        "assert suite.score(suite.base(), 'mnist', 'validation') > 0.1\n"
        "assert len(mergearena.board()) > 10"
    )
    done = run("-c", program, cwd=squatted, PYTHONPATH=str(site), PYTHONSAFEPATH="1")
    assert done.returncode == 0, done.stderr
    listed = run("-P", "-m", "mergearena.bench", "list", "attacks", cwd=squatted, PYTHONPATH=str(site))
    assert "ties" in listed.stdout
