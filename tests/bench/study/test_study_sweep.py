"""Sweeps: a value in its place, one row per play, references as of a run at that value, means with intervals."""

import re

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from mergearena.bench.cli.asked.study import SweepOptions
from mergearena.bench.cli.commands import sweep
from mergearena.bench.cli.commands import sweep as sweep_command
from mergearena.bench.cli.main import main
from mergearena.bench.errors import ArenaError
from mergearena.bench.games.protection import presets
from mergearena.bench.study.sweep import Names, References, game_of, means, rows_of
from mergearena.bench.study.sweep_report import curves_of, write
from record_factory import make_record
from study_suite import SUITE, MadeUp

NONE = Names({"none": ("none",), "params(dropout={})": ("params(dropout=weights)",)}, {"ties": ("identity > ties",)})
METRICS = game_of("protection").metrics


def at(value, *attacked, names=NONE):
    """Rows at one value: floor 0.5, ceiling 0.9 for the victim; attacks as (defense, attack, victim's score)."""
    played = [
        make_record(attack="base-only", uses_victim=False, test=(0.5, 0.3)),
        make_record(attack="identity > ties", test=(0.9, 0.8)),
        make_record(attack=None, defense="params(dropout=weights)", test=(0.7,)),
        *(make_record(defense=d, attack=a, **{"test": (score, 0.8), **more}) for d, a, score, more in attacked),
    ]
    return list(rows_of(value, played, names, References(played)))


def test_a_row_has_what_was_measured_under_the_names_that_were_given():
    rows = at("0.3", ("params(dropout=weights)", "identity > ties", 0.6, {}))
    assert [(row["value"], row["defense"], row["attack"]) for row in rows] == [
        ("0.3", "none", "ties"),
        ("0.3", "params(dropout={})", "ties"),
    ]
    assert rows[0]["recovered"] == 1
    assert rows[1]["recovered"] == pytest.approx(0.25)
    assert rows[1]["merged_score"] == pytest.approx(0.7)
    assert rows[1]["protected_score"] == pytest.approx(0.7)
    assert rows[0]["protected_score"] is None


def test_a_play_without_a_result_is_a_row_without_a_share():
    rows = at("1", ("params(dropout=weights)", "identity > ties", 0, {"status": "timeout", "test": None}))
    assert (rows[1]["status"], rows[1]["recovered"]) == ("timeout", None)
    assert list(means(rows, "recovered")) == [("none", "ties")]


def test_what_is_swept_is_read_on_one_scale():
    """The ceiling is that of the best value: a weaker merge elsewhere must not make the same attack look better."""
    floor = make_record(attack="base-only", uses_victim=False, test=(0.5, 0.3))
    weak, strong = (
        make_record(attack=f"identity > ties(density={d})", test=(a, 0.8)) for d, a in ((0.1, 0.7), (0.4, 0.9))
    )
    fixed = make_record(attack="identity > average", test=(0.6, 0.8))
    references = References([floor, weak, strong, fixed])
    names = Names({"none": ("none",)}, {"average": ("identity > average",)})
    shares = [
        row["recovered"] for merge in (weak, strong) for row in rows_of("", [floor, merge, fixed], names, references)
    ]
    assert shares == [pytest.approx(0.25), pytest.approx(0.25)]


def test_another_k_has_a_scale_of_its_own():
    records = [
        make_record(attack=attack, uses_victim=attack != "base-only", test=(score, 0.8), examples=k)
        for k, ceiling in ((16, 0.7), (64, 0.9))
        for attack, score in (("base-only", 0.5), ("identity > ties", ceiling))
    ]
    references = References(records)
    for few in (records[:2], records[2:]):
        (row,) = rows_of("k", few, Names({"none": ("none",)}, {"ties": ("identity > ties",)}), references)
        assert row["recovered"] == 1


def test_auto_is_its_strongest_step():
    names = Names.of("protection", "", ["params(dropout=weights)"], ["auto"])
    assert {*names.attacks["auto"]} == {*presets.AUTO}
    steps = [("params(dropout=weights)", step, 0.6 + 0.1 * i, {}) for i, step in enumerate(presets.AUTO[:3])]
    (row,) = at("1", *steps, names=names)
    assert (row["attack"], row["recovered"]) == ("auto", pytest.approx(0.75))


def test_names_are_the_texts_with_their_places():
    names = Names.of("protection", "0.4", ["params(rate={}, dropout=weights)"], ["ties(density={})"])
    assert names == Names(
        {"params(rate={}, dropout=weights)": ("params(dropout=weights, rate=0.4)",)},
        {"ties(density={})": ("identity > ties(density=0.4)",)},
    )
    mirrored = Names.of("backdoor", "0.1", ["task-arithmetic(scale={})"], ["badnets(patch={})"])
    assert mirrored.attacks == {"badnets(patch={})": ("badnets(patch=0.1)",)}


def test_two_names_of_one_spelling_each_have_their_rows():
    """At its default, ties(density={}) is spelled like the reference beside it: both curves have the value there."""
    given, rows = ("ties(density={})", "ties"), []
    for value, share in (("0.1", 0.8), ("0.2", 0.9)):
        swept = "identity > ties" if value == "0.2" else f"identity > ties(density={value})"
        played = [
            make_record(attack="base-only", uses_victim=False, test=(0.5, 0.3)),
            make_record(attack="identity > ties", test=(0.9, 0.8)),
            *(make_record(defense="params", attack=a, test=(share, 0.9)) for a in {swept: 0, "identity > ties": 0}),
        ]
        rows += rows_of(value, played, Names.of("protection", value, ("params",), given), References(played))
    found = means(rows, "recovered")
    curves = {attack: {value: at.mean for value, at in line.items()} for (_, attack), line in found.items()}
    assert curves == {name: {"0.1": pytest.approx(0.75), "0.2": pytest.approx(1.0)} for name in given}


def test_two_names_of_one_merger_each_have_their_rows():
    names = Names.of("backdoor", "0.2", ["ties(density={})", "ties"], ["badnets"])
    assert names.defenses == {"ties(density={})": ("ties",), "ties": ("ties",)}


def test_only_games_that_are_known_are_swept():
    with pytest.raises(ArenaError, match="there are: protection, backdoor"):
        Names.of("chess", "1", [], [])


def test_means_are_over_matches_and_seeds():
    rows = [
        {"defense": "d", "attack": "a", "value": "1", "match": match, "seed": seed, "recovered": share}
        for match, seed, share in (("v+w", 0, 0.2), ("v+w", 1, 0.4), ("w+v", 0, 0.9), ("w+v", 1, None))
    ]
    interval = means(rows, "recovered")["d", "a"]["1"]
    assert interval.mean == pytest.approx((0.3 + 0.9) / 2)
    assert interval.low < interval.mean < interval.high


def options(tmp_path, **changes):
    given = {
        "values": "0.2,0.8",
        "track": "protection",
        "suite": SUITE,
        "defense": ["params"],
        "attack": ["weight-matching > task-arithmetic(scale={})"],
        "match": ["b+a"],
        "malicious": "1",
        "examples": "8",
        "tier": "data-free",
        "seed": [0],
        "jobs": 1,
        "records": tmp_path / "records",
        "out": tmp_path,
        "timeout": 60.0,
        "memory": 4.0,
        "key": "k",
        "plugin": [],
    }
    return SweepOptions(**{**given, **changes})


def test_a_sweep_in_files(tmp_path, monkeypatch):
    made_up = MadeUp(test=lambda share: share)
    monkeypatch.setattr(
        sweep_command, "play_all", lambda plays, root, listener, **o: made_up(plays, root, keep=True, **o)
    )
    console = Console(record=True, width=120, file=open("/dev/null", "w"))  # noqa: SIM115
    assert sweep.run(options(tmp_path), console) == 0
    rows = pq.read_table(tmp_path / "sweep.parquet").to_pylist()
    assert [(row["value"], row["attack"], row["recovered"]) for row in rows] == [
        (value, "weight-matching > task-arithmetic(scale={})", pytest.approx(0.5)) for value in ("0.2", "0.8")
    ]
    text = console.export_text()
    assert re.search(r"task-arithmetic\(scale=\{\}\)\s+50\.0\s+50\.0", text)
    page = (tmp_path / "sweep.html").read_text()
    assert page.count("</svg>") == len(METRICS) + 1  # and one key
    assert not re.search(r"<script|https?://(?!www\.w3\.org)|@import|url\(", page)


def test_values_that_are_no_numbers_are_an_axis_of_names(tmp_path):
    rows = [{**row, "value": value} for value in ("v+d", "v+d+e") for row in at(value)]
    write(rows, curves_of(rows, METRICS), ("v+d", "v+d+e"), "command", tmp_path)
    assert ">v+d+e</text>" in (tmp_path / "sweep.html").read_text()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"attack": ["ties"]}, "nothing varies: put {} where the values go"),
        ({"examples": "{}", "values": "many"}, "--examples takes whole numbers from 1, not 'many'"),
        ({"track": "backdoor", "malicious": "{}", "values": "0"}, "--malicious takes whole numbers from 1, not '0'"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(tmp_path, changes, problem):
    with pytest.raises(ArenaError, match=re.escape(problem)):
        sweep.run(options(tmp_path, **changes), Console(quiet=True))


def test_each_value_has_options_of_an_ordinary_run(tmp_path):
    asked = options(tmp_path, examples="{}", values="16, 64", attack=["ties"])
    assert [asked.at(value).examples for value in asked.swept] == [16, 64]
    asked = options(tmp_path, match=["b+{}"], values="a,a+c")
    assert [asked.at(value).matches for value in asked.swept] == [("b+a",), ("b+a+c",)]


def test_the_command_line_names_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["mergearena", "study", "sweep", "--values", "1,2"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "nothing varies" in capsys.readouterr().err
