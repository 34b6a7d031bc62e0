"""Suites are found by what their folders and installed packages declare."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from mergearena.bench import suites
from mergearena.bench.errors import ArenaError, UnknownName
from tiny_suite import TinySuite


@pytest.fixture
def forgotten():
    """The table is made anew, and forgotten again."""
    suites._known.cache_clear()
    yield
    suites._known.cache_clear()
    suites.get.cache_clear()


def installed(monkeypatch, **entries):
    found = [EntryPoint(name, target, suites.ENTRY_POINTS) for name, target in entries.items()]
    monkeypatch.setattr(suites, "entry_points", lambda group: found if group == suites.ENTRY_POINTS else [])


def test_this_projects_suites_are_there():
    assert suites.names()[:2] == ("embedded", "text")
    assert suites.get("embedded").name == "embedded"


def test_a_folder_is_all_that_a_suite_needs(monkeypatch, forgotten, tmp_path):
    folder = tmp_path / "yet_another"
    folder.mkdir()
    (folder / "__init__.py").write_text('SUITES = {"yet-another": "suite:Another"}')
    (folder / "suite.py").write_text("from tiny_suite import TinySuite\nclass Another(TinySuite): name = 'yet-another'")
    monkeypatch.setattr(suites, "__path__", [*suites.__path__, str(tmp_path)])
    assert suites.names() == ("embedded", "text", "yet-another")
    assert isinstance(suites.get("yet-another"), TinySuite)


def test_an_installed_package_adds_suites(monkeypatch, forgotten):
    installed(monkeypatch, elsewhere="tiny_suite:TinySuite")
    assert suites.names() == ("embedded", "text", "elsewhere")
    assert isinstance(suites.get("elsewhere"), TinySuite)
    with pytest.raises(UnknownName, match="did you mean 'elsewhere'"):
        suites.get("elsewere")


def test_two_suites_of_one_name_are_an_error(monkeypatch, forgotten):
    installed(monkeypatch, text="tiny_suite:TinySuite")
    with pytest.raises(ArenaError, match=r"two suites are called 'text'.*tiny_suite:TinySuite"):
        suites.names()


@pytest.mark.parametrize("name", ["embeded", "nowhere:Suite", "tiny_suite:Missing"])
def test_an_unknown_suite_is_one_clear_line(name):
    with pytest.raises(UnknownName) as error:
        suites.get(name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_listing_imports_no_suite():
    heavy = "open_clip", "transformers", "datasets", "pyarrow", "mergearena.bench.suites.text.suite"
    code = "import sys; from mergearena.bench import suites; suites.names(); "
    code += f"print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", suites.names())
def test_a_suite_declares_its_metric_and_version(name):
    suite = suites.get(name)
    assert (suite.metric, suite.version) == ("accuracy", "1")
