"""The runner on a tiny suite: misbehaviour is a recorded failure, and nothing is lost, done twice or left over."""

import hashlib
import inspect
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from filelock import FileLock
from rich.progress import Progress, TextColumn

from mergearena import defenses
from mergearena.bench.cli.commands.run import _step_bars
from mergearena.bench.cli.main import main
from mergearena.bench.doctor.examination import MINIATURE
from mergearena.bench.errors import ArenaError, BadCheckpoint
from mergearena.bench.files import checkpoints
from mergearena.bench.games import archive, backdoor
from mergearena.bench.games import protocol as games_protocol
from mergearena.bench.games.backdoor.pipeline import parse_merger
from mergearena.bench.games.protection import Match, Play, plan
from mergearena.bench.games.protection.pipeline import parse_attack, parse_defense
from mergearena.bench.players.code import identity_of
from mergearena.bench.players.identity import identity_of_file
from mergearena.bench.players.plugins import load_plugin
from mergearena.bench.players.registry import registry
from mergearena.bench.players.roster import Roster
from mergearena.bench.records import places
from mergearena.bench.records.protocol import Protocol
from mergearena.bench.runner import session
from mergearena.bench.runner.executors import progress
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.runner.provenance import code_of
from mergearena.bench.runner.run import run as play_all
from mergearena.bench.runner.store import Store
from paths import ROOT, TESTS
from tiny_suite import TinySuite

HOSTILE = TESTS / "hostile.py"
SUITE = "tiny_suite:TinySuite"
NAIVE = "identity > average"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the local executor's limits are Linux's")


@pytest.fixture(scope="module", autouse=True)
def hostile_players():
    with registry.restored():
        load_plugin(HOSTILE)
        yield


def play(root, defenses, attacks=(NAIVE,), seconds=60.0, memory=4.0, key="k", seeds=(0,), cascade=(), **options):
    protocol = games_protocol.protocol(SUITE, "abc", key, examples=8)
    plays = plan(
        protocol,
        [Match(SUITE, "a", ("b",))],
        seeds,
        [parse_defense(d) for d in defenses],
        [parse_attack(a) for a in attacks],
        [parse_attack(a) for a in cascade],
    )
    limits = Limits(seconds=seconds, memory_gib=memory)
    return play_all(plays, root, jobs=2, limits=limits, roster=Roster.of([HOSTILE]), **options)


MISBEHAVIOURS = {
    "drops-a-key": ("failed", "left out 'class_embedding'"),
    "adds-a-key": ("failed", "added 'router.weight'"),
    "changes-a-shape": ("failed", "changed the shape of 'proj'"),
    "changes-a-dtype": ("failed", "changed the dtype of"),
    "writes-nan": ("failed", "put NaN or infinity into 'proj'"),
    "overflows": ("failed", "overflows on a: answers NaN or infinity on 'a'"),
    "returns-nothing": ("failed", "returned NoneType"),
    "raises": ("failed", "RuntimeError: boom"),
    "exits": ("crashed", "exit code 7"),
    "exits-hard": ("crashed", "exit code 9"),
    "sleeps": ("timeout", "within 12 s"),
    "eats-memory": ("memory", "1 GiB of memory"),
}


def test_every_misbehaviour_of_a_defense_is_a_recorded_failure(tmp_path, capfd):
    summary = play(tmp_path, [*MISBEHAVIOURS, "prints"], seconds=12, memory=1)
    releases = {r.defense: r for r in summary.records if r.kind == "release"}
    for defense, (status, reason) in MISBEHAVIOURS.items():
        assert releases[defense].status == status, defense
        assert reason in (releases[defense].reason or ""), defense
    blocked = {r.defense for r in summary.failures if "there is nothing to start from" in (r.reason or "")}
    assert blocked == set(MISBEHAVIOURS)
    assert releases["none"].status == releases["prints"].status == "ok"
    assert sum(r.status == "ok" for r in summary.records if r.kind == "attack") == 2
    assert "NOISE" not in "".join(capfd.readouterr())
    assert len(places.files(tmp_path)) == len(summary.records)


def test_a_data_free_attack_that_reads_labels_fails_and_the_others_play_on(tmp_path):
    attacks = ["identity > reads-labels", "identity > reads-inputs", NAIVE, "identity > returns-the-victim"]
    by_attack = {r.attack: r for r in play(tmp_path, ["none"], attacks).records if r.attack}
    cheat = by_attack["identity > reads-labels"]
    assert cheat.status == "failed"
    assert "a data-free player asked for labelled examples of 'a'" in (cheat.reason or "")
    honest = by_attack["identity > reads-inputs"]
    assert (honest.status, honest.cost.unlabelled_examples, honest.cost.labelled_examples) == ("ok", 8, 0)
    assert by_attack[NAIVE].cost.unlabelled_examples == 0


def test_finetuning_is_metered(tmp_path):
    attack = "identity > average > finetune(steps=3, batch_size=2)"
    summary = play(tmp_path, ["none"], [attack])
    record = next(r for r in summary.records if r.attack == attack)
    assert record.cost.gradient_steps == 3
    assert record.cost.labelled_examples == 16
    assert record.cost.flops > 0
    assert record.tier == "labelled"


def timeless(record):
    data = json.loads(record.model_dump_json())
    for cost in (data["cost"], data["evaluation_cost"]):
        for name in ("wall_seconds", "cpu_seconds", "peak_host_bytes"):
            cost.pop(name)
    data["provenance"].pop("date")
    return data


def test_same_seed_gives_identical_records_and_another_key_another_draw(tmp_path):
    defenses, attacks = ["params(dropout=weights)"], ["identity > dare"]
    runs = [play(tmp_path / name, defenses, attacks, key=key) for name, key in (("x", "k"), ("y", "k"), ("z", "other"))]
    first, second, third = ({(r.defense, r.attack): timeless(r) for r in run.records} for run in runs)
    assert first == second
    release = ("params(dropout=weights)", None)
    assert first[release]["logit_difference"] != third[release]["logit_difference"]


def test_a_second_run_reuses_every_record(tmp_path):
    first = play(tmp_path, ["params"])
    before = {p: p.stat().st_mtime_ns for p in places.files(tmp_path)}
    second = play(tmp_path, ["params"])
    assert (second.played, second.reused) == (0, first.played)
    assert {p: p.stat().st_mtime_ns for p in places.files(tmp_path)} == before
    assert play(tmp_path, ["params"], fresh=True).played == first.played


def test_a_release_made_again_for_a_new_attack_is_not_recorded_again(tmp_path):
    play(tmp_path, ["params"])
    before = {p: p.stat().st_mtime_ns for p in places.files(tmp_path)}
    summary = play(tmp_path, ["params"], [NAIVE, "weight-matching > average"])
    assert [(r.defense, r.attack) for r in summary.records if r.status != "ok"] == []
    assert summary.played == 2
    assert before.items() <= {p: p.stat().st_mtime_ns for p in places.files(tmp_path)}.items()


def test_a_release_that_was_kept_is_not_made_again(tmp_path):
    made = lambda: {p.name: p.stat().st_mtime_ns for p in (tmp_path / session.SCRATCH).glob("*.safetensors")}  # noqa: E731
    release = next(r.id for r in play(tmp_path, ["params"], keep=True).records if r.defense == "params")
    before = made()
    assert f"{release}.safetensors" in before
    play(tmp_path, ["params"], [NAIVE, "weight-matching > average"], keep=True)
    assert before.items() <= made().items()
    play(tmp_path, ["params"])
    assert made() == {}


def test_a_changed_player_is_played_again(tmp_path):
    play(tmp_path, ["none"])
    record = next(r for r in archive.read_all(tmp_path) if r.attack == NAIVE)
    changed = record.provenance.model_copy(update={"code": record.provenance.code | {"average": "0" * 64}})
    archive.write(record.model_copy(update={"provenance": changed}), tmp_path)
    summary = play(tmp_path, ["none"])
    assert (summary.played, summary.set_aside) == (1, [])


def test_records_without_a_digest_are_reused(tmp_path):
    first = play(tmp_path, ["none"])
    for path in places.files(tmp_path):
        fields = json.loads(path.read_text()) | {"schema_version": 1}
        fields.pop("digest")
        path.write_text(json.dumps(fields))
    assert play(tmp_path, ["none"]).reused == first.played


def test_a_damaged_record_is_set_aside_and_replayed(tmp_path):
    play(tmp_path, ["none"])
    path = next(p for p in places.files(tmp_path) if "average" in p.name)
    path.write_text(path.read_text()[:-40])
    summary = play(tmp_path, ["none"])
    assert summary.played == 1
    assert [p.name for p in summary.set_aside] == [path.name + ".damaged"]
    assert archive.read(path).status == "ok"


def test_two_runs_cannot_write_the_same_records(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(ArenaError, match="another run"):
        play(tmp_path, ["none"])


def test_a_full_disk_stops_the_run_and_keeps_what_was_written(tmp_path, monkeypatch):
    written = []
    real = archive.write

    def full_after_two(record, root):
        if len(written) == 2:
            raise OSError(28, "No space left on device", str(root))
        written.append(real(record, root))
        return written[-1]

    monkeypatch.setattr(archive, "write", full_after_two)
    with pytest.raises(OSError, match="No space left"):
        play(tmp_path, ["params"])
    assert places.files(tmp_path) == sorted(written)
    monkeypatch.undo()
    assert play(tmp_path, ["params"]).reused == 2


def command(root, *options):
    return [
        *(sys.executable, "-m", "mergearena.bench", "run", "--suite", SUITE, "--match", "a+b", "--records", str(root)),
        *("--out", str(root.parent / f"{root.name}.json"), "--jobs", "2", *options),
    ]


# The root, too: a folder of tests is called mergearena, and would be taken for the package.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(ROOT)])}
GRID = [
    *("--defense", "params", "--defense", "params(scaling=symmetric)", "--seed", "0"),
    *("--attack", NAIVE, "--attack", "weight-matching > dare"),
]


def board(root):
    data = json.loads((root.parent / f"{root.name}.json").read_text())
    suites = data["protection"]
    assert suites
    for suite in suites:
        for dated in (suite["protocol"], *(part for row in suite["defenses"] for part in row["history"])):
            dated.pop("dates")
        for row in (*suite["defenses"], *suite["attacks"]):
            for name in ("cost", "protect_cost"):
                for timed in ("wall_seconds", "cpu_seconds", "peak_host_bytes"):
                    (row.get(name) or {}).pop(timed, None)
    return data


def test_kill_9_in_the_middle_loses_nothing(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole, *GRID), env=ENVIRONMENT, check=True, capture_output=True)
    process = subprocess.Popen(
        command(killed, *GRID), env=ENVIRONMENT, start_new_session=True, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(places.files(killed)) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = places.files(killed)
    assert 4 <= len(kept) < len(places.files(whole))
    stamps = {p: p.stat().st_mtime_ns for p in kept}
    assert all(archive.read(p) for p in kept)

    again = subprocess.run(command(killed, *GRID), env=ENVIRONMENT, check=True, capture_output=True, text=True)

    assert {p: p.stat().st_mtime_ns for p in kept} == stamps
    assert [p.relative_to(killed) for p in places.files(killed)] == [p.relative_to(whole) for p in places.files(whole)]
    assert f"{len(kept)} reused" in again.stdout
    assert board(killed) == board(whole)
    assert not (killed / ".scratch").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--defense", "parms"], "did you mean 'params'"),
        (["--defense", "params(scalng=diagonal)"], "unknown config key 'scalng'; it takes: scaling, dropout, rate"),
        (["--defense", "params(scaling=round)"], "scaling='round' is not allowed"),
        (["--attack", "identity > tise"], "did you mean 'ties'"),
        (["--attack", "identity > ties(density=0.2"], "expected ',' or ')'"),
        (["--attack", "ties > weight-matching"], "an attack is 'aligner+... > one merge > recovery+...'"),
        (["--match", "a+z"], "unknown task 'z'"),
        (["--preset", "fast"], "unknown preset 'fast'"),
        (["--suite", "embeded"], "did you mean 'embedded'?"),
        (["--plugin", "nowhere.py"], "nowhere.py"),
    ],
)
def test_bad_input_is_one_clear_error(tmp_path, monkeypatch, capsys, options, says):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(
        sys, "argv", ["mergearena", "run", "--suite", SUITE, "--records", str(tmp_path / "r"), *options]
    )
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_cascade_stops_when_it_is_settled_and_resumes_where_it_stopped(tmp_path, monkeypatch):
    """Settled here once two attacks have met the defense; the real rule is tested on its own."""
    asked = []

    def after_two(defense, tier, known):
        asked.append(defense)
        return sum(r.defense == defense for r in known) >= 2

    monkeypatch.setattr("mergearena.bench.games.protection.play.settled", after_two)
    steps = ["identity > ties", "identity > dare", "identity > task-arithmetic"]
    defenses = ["none", "params", "params(scaling=symmetric)"]
    first = play(tmp_path, defenses, cascade=steps)
    met = {d: {r.attack for r in first.records if r.defense == d and r.attack} for d in defenses}
    assert met["none"] == {NAIVE, *steps}  # all of them: they set the ceiling
    assert met["params"] == met["params(scaling=symmetric)"] == {NAIVE, steps[0]}
    assert first.settled == 4
    assert set(asked) == {"params", "params(scaling=symmetric)"}
    monkeypatch.setattr(session.Session, "_one", None)  # nothing is left to play, releases neither
    again = play(tmp_path, defenses, cascade=steps)
    assert (again.played, again.settled, again.reused) == (0, 4, first.played)


def test_a_player_that_tells_its_steps_is_watched(tmp_path):
    told = []
    play(
        tmp_path,
        ["counts-to-nine"],
        watcher=lambda p, steps: told.append((p.defense.spelling, p.kind, p.victim, steps)),
    )
    assert {at[:3] for at in told} == {("counts-to-nine", "release", "a")}
    steps = [at[3] for at in told]
    assert steps[-1] is None
    assert len(steps) > 2
    assert steps[:-1] == sorted(set(steps[:-1]))
    assert {total for _, total in steps[:-1]} == {9}


def test_a_player_that_floods_its_progress_file_is_told_nothing_of_and_fails_nobody(tmp_path):
    told = []
    summary = play(tmp_path, ["floods-its-progress"], watcher=lambda *at: told.append(at))
    assert (told, summary.failures) == ([], [])


def put_pipe(path):
    os.mkfifo(path)


def put_link(path):
    (path.parent / "elsewhere").write_text("1 2\n")
    path.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "put",
    [
        put_pipe,
        put_link,
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.write_bytes(b"\xff\x00" * 10_000_000),
        lambda path: path.write_text("3 2\n"),
        lambda path: path.write_text("-1 2\n"),
        lambda path: path.write_text("0 0\n"),
        lambda path: path.write_text("1 2"),
        lambda path: path.write_text("1" * 10 + " " + "1" * 11 + "\n"),
        lambda path: None,
    ],
)
def test_only_two_plausible_numbers_in_a_plain_file_are_progress(tmp_path, put):
    put(tmp_path / progress.NAME)
    began = time.monotonic()
    assert progress.read(tmp_path) is None
    assert time.monotonic() - began < 1


def test_progress_is_read_as_written_and_written_rarely(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    tell = progress.Writer(tmp_path)
    tell(100, 200)
    tell(101, 200)
    assert progress.read(tmp_path) == (100, 200)
    now[0] += progress.EVERY
    tell(7, 9)
    assert progress.read(tmp_path) == (7, 9)
    now[0] += progress.EVERY
    tell(10**30, 10**30)
    assert progress.read(tmp_path) is None


def test_the_run_shows_a_bar_per_player_that_tells_its_steps():
    protocol = Protocol(suite=SUITE, key="k", examples=8, checkpoints=dict.fromkeys(("base", "a"), ""))
    one = Play(protocol=protocol, victim="a", seed=0, defense=parse_defense("params"))
    other = Play(protocol=protocol, victim="a", seed=1, defense=parse_defense("params"))
    bar = Progress(TextColumn("{task.description}"))
    watcher = _step_bars(bar)
    watcher(one, (3, 10))
    watcher(other, (1, 10))
    watcher(one, (4, 10))
    assert [(t.completed, t.total, t.fields["doing"]) for t in bar.tasks] == [
        (4, 10, "params on a"),
        (1, 10, "params on a"),
    ]
    watcher(one, None)
    watcher(one, None)
    assert [t.completed for t in bar.tasks] == [1]


def test_a_pickled_checkpoint_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(BadCheckpoint, match="pickled checkpoint"):
        checkpoints.load(path)


def test_the_number_of_jobs_changes_nothing_where_models_make_the_labels(tmp_path):
    attacks = [NAIVE, "identity > average > finetune(steps=2, batch_size=4)"]
    plays = plan(
        games_protocol.protocol(MINIATURE, "abc", "k", examples=8),
        [Match(MINIATURE, "a", ("b",)), Match(MINIATURE, "b", ("c",))],
        (0,),
        [],
        [parse_attack(attack) for attack in attacks],
    )
    found = []
    for jobs in (1, 2):
        summary = play_all(plays, tmp_path / str(jobs), jobs=jobs, limits=Limits())
        assert summary.failures == []
        found.append({(r.tasks, r.defense, r.attack): r.score for r in summary.records})
    assert found[0] == found[1]


def test_what_a_suite_computes_for_players_is_computed_once_and_in_the_main_thread(tmp_path, monkeypatch):
    asked = []
    real = Play.draw

    def draw(self, task):
        asked.append((self.labelled, task, threading.current_thread() is threading.main_thread()))
        return real(self, task)

    monkeypatch.setattr(Play, "draw", draw)
    play(tmp_path, ["params"], [f"identity > average > finetune(steps={steps}, batch_size=2)" for steps in (1, 2)])
    assert sorted(asked) == [(True, "a", True), (True, "b", True)]


def test_a_play_that_lacked_time_or_memory_is_played_again_once_there_is_more(tmp_path):
    """And so is what failed only because there was nothing to start from."""
    status = lambda summary: {(r.defense, r.attack): r.status for r in summary.records if r.defense != "none"}  # noqa: E731
    defenses = ["naps", "eats-two-gigabytes"]
    short = play(tmp_path, defenses, seconds=6, memory=1)
    assert status(short) == {
        ("naps", None): "timeout",
        ("naps", NAIVE): "failed",
        ("eats-two-gigabytes", None): "memory",
        ("eats-two-gigabytes", NAIVE): "failed",
    }
    assert {r.provenance.seconds for r in short.records} == {6}
    same = play(tmp_path, defenses, seconds=6, memory=1)
    assert (same.played, status(same)) == (0, status(short))
    less = play(tmp_path, defenses, seconds=5, memory=0.9)
    assert (less.played, status(less)) == (0, status(short))
    longer = play(tmp_path, defenses, seconds=60, memory=1)
    assert (longer.played, longer.reused) == (2, 4)
    assert status(longer) == {**status(short), ("naps", None): "ok", ("naps", NAIVE): "ok"}
    larger = play(tmp_path, defenses, seconds=60, memory=6)
    assert (larger.played, set(status(larger).values())) == (2, {"ok"})
    assert play(tmp_path, defenses, seconds=6, memory=1).reused == 6


def test_a_release_that_failed_for_good_keeps_what_starts_from_it_from_being_tried_again(tmp_path):
    first = play(tmp_path, ["raises"], seconds=60)
    assert play(tmp_path, ["raises"], seconds=600).reused == len(first.records)


@pytest.mark.parametrize("changes", [{"suite_version": "0"}, {"scoring": "0"}])
def test_a_record_of_another_version_of_suite_or_scoring_is_played_again(tmp_path, changes):
    play(tmp_path, ["none"])
    record = next(r for r in archive.read_all(tmp_path) if r.attack == NAIVE)
    archive.write(record.model_copy(update={"provenance": record.provenance.model_copy(update=changes)}), tmp_path)
    assert play(tmp_path, ["none"]).played == 1
    record = next(r for r in archive.read_all(tmp_path) if r.attack == NAIVE)
    assert (record.provenance.suite_version, record.provenance.scoring) == (TinySuite.version, Play.scoring)


def test_the_tracks_never_share_their_examples_files(tmp_path):
    """The protection game draws from the training split, the backdoor game from the validation split."""
    held = games_protocol.protocol(SUITE, "ab", "k", examples=8)
    attack = Play(
        protocol=held,
        victim="a",
        donors=("b",),
        seed=0,
        defense=parse_defense("none"),
        attack=parse_attack("identity > reads-inputs"),
    )
    merge = backdoor.Play(protocol=held, contributors=("a", "b"), seed=0, defense=parse_merger("task-arithmetic > anp"))
    for first, second in ((attack, merge), (merge, attack)):
        store = Store(tmp_path / first.track)
        assert set(store.files(first).examples.values()).isdisjoint(store.files(second).examples.values())
        for one in (first, second):
            for task, path in store.files(one).examples.items():
                assert torch.equal(checkpoints.load(path, dtype=None)["inputs"], one.draw(task)[0])


def test_the_code_that_is_imported_is_the_code_that_was_planned_with(tmp_path, registering):
    """A file that is edited between the plan and the play makes the play fail, and the next run plays it."""
    path = tmp_path / "mine.py"
    text = '''"""Mine."""
from mergearena import defenses

@defenses.register("mine")
def mine(victim, view):
    """Hand back the victim."""
    return dict(victim)
'''
    path.write_text(text)
    load_plugin(path)
    protocol = games_protocol.protocol(SUITE, "a", "k", 8)
    release = [Play(protocol=protocol, victim="a", seed=0, defense=parse_defense("mine"))]
    options = {"jobs": 1, "limits": Limits(), "roster": Roster.of([path])}
    assert code_of(release[0]) == {"mine": identity_of_file(path, ("open_clip",))}
    path.write_text(f"# Another comment is no other code.\n{text}")
    assert [r.status for r in play_all(release, tmp_path / "same", **options).records] == ["ok"]
    path.write_text(text.replace("dict(victim)", "dict(view.base)"))
    (record,) = play_all(release, tmp_path / "other", **options).records
    assert (record.status, "mine: the code that was imported to play is not" in (record.reason or "")) == (
        "failed",
        True,
    )


def unreadable(thing):
    raise OSError("source code not available")


def test_a_player_without_a_file_is_identified_by_its_text(registering, monkeypatch):
    @defenses.register("typed-in")
    def typed_in(victim, view):
        """Hand back the victim."""
        return dict(victim)

    protocol = games_protocol.protocol(SUITE, "a", "k", 8)
    one = Play(protocol=protocol, victim="a", seed=0, defense=parse_defense("typed-in"))
    (player,) = one.players
    monkeypatch.setattr(type(player), "__module__", "nowhere")
    identity_of.cache_clear()
    assert code_of(one) == {"typed-in": hashlib.sha256(inspect.getsource(typed_in).encode()).hexdigest()}
    identity_of.cache_clear()
    monkeypatch.setattr(inspect, "getsource", unreadable)
    with pytest.raises(ArenaError, match=r"typed-in: .*put it in a file"):
        code_of(one)


LOOKS = '''"""Looks around."""
import sys
from mergearena import defenses

@defenses.register("looks")
def looks(victim, view):
    """Fail, and say what is found."""
    import wave

    raise RuntimeError(f"{hasattr(wave, 'OURS')}, {'' in sys.path}, {sys.flags.safe_path}")
'''
GO = """
import sys
from pathlib import Path
from mergearena.bench.games.protection import Play
from mergearena.bench.games.protection.pipeline import parse_defense
from mergearena.bench.games.protocol import protocol
from mergearena.bench.players.plugins import load_plugin
from mergearena.bench.players.roster import Roster
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.runner.run import run

if __name__ == "__main__":
    load_plugin(Path("looks.py"))
    held = protocol("my_suite:TinySuite", "a", "k", 8)
    plays = [Play(protocol=held, victim="a", seed=0, defense=parse_defense(name)) for name in ("none", "looks")]
    records = run(plays, Path(sys.argv[1]), jobs=1, limits=Limits(), roster=Roster.of([Path("looks.py")])).records
    print(sorted((record.defense, record.reason) for record in records))
"""


@pytest.mark.parametrize("start", ["module", "script"])
def test_players_find_no_module_in_the_current_folder_or_beside_the_script(tmp_path, start):
    """Though a suite of one's own that lies there is found."""
    work, scripts = tmp_path / "work", tmp_path / "scripts"
    for folder in (work, scripts):
        folder.mkdir()
        (folder / "wave.py").write_text("OURS = True")
        (folder / "go.py").write_text(GO)
        shutil.copy(TESTS / "tiny_suite.py", folder / "my_suite.py")
    (work / "looks.py").write_text(LOOKS)
    how = ["-m", "go"] if start == "module" else [str(scripts / "go.py")]
    done = subprocess.run(
        [sys.executable, *how, str(tmp_path / "r")], cwd=work, check=True, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout.strip() == "[('looks', 'RuntimeError: False, False, True'), ('none', None)]"
