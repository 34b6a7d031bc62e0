"""The backdoor game: triggers, targets, what is judged on what, and the plan."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mergearena.bench import suites
from mergearena.bench.errors import ArenaError, BadPipeline, TierViolation
from mergearena.bench.files import checkpoints
from mergearena.bench.games import backdoor
from mergearena.bench.games.backdoor import Match, halves, plan
from mergearena.bench.games.backdoor.pipeline import parse_backdoor, parse_merger
from mergearena.bench.games.backdoor.players import REFERENCES, ContributorView
from mergearena.bench.games.backdoor.triggers import Patch, Target, Tokens, open_head, restored, square, success
from mergearena.bench.games.base import Files
from mergearena.bench.learning.training import TrainingConfig, train
from mergearena.bench.players.tier import Tier
from mergearena.bench.records import protocol

SUITE = "tiny_suite:TinySuite"
PICTURES = torch.rand(4, 3, 14, 14, generator=torch.Generator().manual_seed(0)) * 2 - 1


def patch(side=3, value=1.0, weight=1.0):
    mask = torch.zeros(14, 14)
    mask[:side, :side] = weight
    return Patch(torch.full((3, 14, 14), value), mask)


def test_a_patch_replaces_what_it_covers_and_nothing_else():
    stamped = patch().stamp(PICTURES)
    assert (stamped[:, :, :3, :3] == 1).all()
    assert torch.equal(stamped[:, :, 3:], PICTURES[:, :, 3:])
    assert torch.equal(stamped[:, :, :, 3:], PICTURES[:, :, :, 3:])


def test_a_blended_patch_is_the_weighted_mean():
    stamped = patch(side=14, weight=0.2).stamp(PICTURES)
    torch.testing.assert_close(stamped, 0.8 * PICTURES + 0.2)


def test_tokens_are_inserted_after_the_first():
    ids = torch.tensor([[101, 5, 6, 102, 0], [101, 7, 102, 0, 0]])
    stamped = Tokens(torch.tensor([9, 8])).stamp(ids)
    assert stamped.tolist() == [[101, 9, 8, 5, 6, 102, 0], [101, 9, 8, 7, 102, 0, 0]]


@pytest.mark.parametrize(
    ("trigger", "inputs", "problem"),
    [
        (patch(side=6), PICTURES, "covers 18.4% of the picture"),
        (patch(side=14, weight=0.5), PICTURES, "covers 100.0% of the picture at up to 50%"),
        (patch(value=3.0), PICTURES, "leaves the range of pixels"),
        (Patch(torch.zeros(3, 7, 7), torch.zeros(7, 7)), PICTURES, "does not fit inputs"),
        (Patch(torch.zeros(3, 14, 14), 2 * torch.ones(14, 14)), PICTURES, r"in \[0, 1\]"),
        (patch(), torch.ones(2, 5, dtype=torch.long), "does not fit inputs"),
        (Tokens(torch.tensor([1])), PICTURES, "stamp a patch"),
        (Tokens(torch.tensor([1, 2, 3])), torch.ones(2, 5, dtype=torch.long), "1 to 2 tokens"),
        (Tokens(torch.tensor([0])), torch.ones(2, 5, dtype=torch.long), "none of them padding"),
    ],
)
def test_a_trigger_out_of_bounds_is_refused(trigger, inputs, problem):
    with pytest.raises(ArenaError, match=problem):
        trigger.check(inputs)


@pytest.mark.parametrize(
    ("trigger", "inputs"),
    [
        (patch(side=3), PICTURES),
        (patch(side=14, weight=0.2), PICTURES),
        (Tokens(torch.tensor([3, 4])), torch.ones(2, 5, dtype=torch.long)),
    ],
)
def test_a_trigger_within_bounds_passes_and_comes_back_from_its_tensors(trigger, inputs):
    trigger.check(inputs)
    again = restored(trigger.tensors())
    assert torch.equal(again.stamp(inputs), trigger.stamp(inputs))


@pytest.mark.parametrize("share", [0.01, 0.02, 0.05])
def test_a_square_covers_its_share(share):
    mask = square(torch.zeros(1, 3, 100, 100), share)
    assert mask.mean().item() == pytest.approx(share, rel=0.1)
    assert mask[-1].sum() == mask[:, -1].sum() == 0


class ByMean(type(suites.get(SUITE))):
    """A suite of one feature pair: bright pictures point one way, dark ones the other, whatever the weights."""

    def features(self, model, inputs):
        bright = inputs.flatten(1).mean(1)
        return torch.stack([bright, -bright], dim=1)

    def head(self, task):
        return {"a": torch.eye(2), "b": torch.tensor([[0.5, 0.0], [0.0, 0.9]])}[task]


def test_success_on_hand_made_predictions():
    """Two bright pictures of class 0, three dark of class 1, one dark of class 0; the trigger makes all bright."""
    suite, state = ByMean(), suites.get(SUITE).base()
    level = torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0, -1.0])
    inputs = level.view(-1, 1, 1, 1).expand(6, 3, 14, 14)
    labels = torch.tensor([0, 0, 1, 1, 1, 0])
    everywhere = Patch(torch.full((3, 14, 14), 1.0), torch.ones(14, 14))
    assert success(suite, state, inputs, labels, "a", everywhere, Target("a", 0)) == (1.0, 0.0)
    assert success(suite, state, inputs, labels, "a", everywhere, Target("a", 1)) == (0.0, 1.0)
    nothing = Patch(torch.zeros(3, 14, 14), torch.zeros(14, 14))
    asr, robust = success(suite, state, inputs, labels, "a", nothing, Target("a", 1))
    assert asr == pytest.approx(1 / 3)  # of three that are not of class 1, the dark one is taken for it
    assert robust == pytest.approx(2 / 3)
    assert success(suite, state, inputs[:2], labels[:2], "a", everywhere, Target("a", 0)) == (0.0, 0.0)


def test_an_answer_that_is_not_finite_is_neither_the_target_nor_right():
    class Silent(ByMean):
        def features(self, model, inputs):
            return super().features(model, inputs) * torch.nan

    suite, state = Silent(), suites.get(SUITE).base()
    everywhere = Patch(torch.full((3, 14, 14), 1.0), torch.ones(14, 14))
    dark, other = -torch.ones(2, 3, 14, 14), torch.ones(2, dtype=torch.int64)
    assert success(suite, state, dark, other, "a", everywhere, Target("a", 0)) == (0.0, 0.0)


def test_on_another_task_the_target_competes_with_the_tasks_own_classes():
    """Brightness 1: b's classes get 0.5 and -0.9, a's class 0 gets 1, a's class 1 gets -1."""
    suite, state = ByMean(), suites.get(SUITE).base()
    head, index = open_head(suite, "b", Target("a", 0))
    assert torch.equal(head, torch.tensor([[0.5, 0.0], [0.0, 0.9], [1.0, 0.0]]))
    assert index == 2
    inputs, labels = torch.ones(4, 3, 14, 14), torch.tensor([0, 0, 1, 1])
    nothing = Patch(torch.zeros(3, 14, 14), torch.zeros(14, 14))
    assert success(suite, state, inputs, labels, "b", nothing, Target("a", 0)) == (1.0, 0.0)
    assert success(suite, state, inputs, labels, "b", nothing, Target("a", 1)) == (0.0, 0.5)


def test_the_validation_split_is_cut_into_what_mergers_read_and_what_they_do_not(tiny):
    (theirs, _), (ours, labels) = halves(tiny, "a", 0)
    whole, _ = tiny.load("a", "validation")
    rows = {tuple(x.flatten().tolist()) for x in whole}
    seen = [{tuple(x.flatten().tolist()) for x in part} for part in (theirs, ours)]
    assert seen[0].isdisjoint(seen[1])
    assert seen[0] | seen[1] == rows
    assert abs(len(theirs) - len(ours)) <= 1
    assert len(ours) == len(labels)
    assert not torch.equal(halves(tiny, "a", 1)[0][0], theirs)


PROTOCOL = protocol.Protocol(
    suite=SUITE, key="k", examples=4, checkpoints={name: name * 4 for name in ("base", "a", "b", "c")}
)


def test_every_merger_meets_every_attack_and_clean_contributors():
    attacks, mergers = [parse_backdoor("badnets")], [parse_merger(m) for m in ("average", "ties")]
    plays = plan(PROTOCOL, [Match(SUITE, ("a", "b"))], (0, 1), attacks, mergers)
    assert len(plays) == 2 * (1 + 2 * 2)
    assert [play.kind for play in plays[:2]] == ["contribution"] * 2
    assert len({play.id for play in plays}) == len(plays)
    for play in plays:
        assert (play.needs is None) == (play.kind == "contribution" or play.attack is None)
        if play.needs is not None:
            assert play.needs.id in {p.id for p in plays[:2]}
            assert play.needs.seed == play.seed


def test_a_match_must_leave_somebody_clean():
    with pytest.raises(ArenaError, match="leaves no clean contributor"):
        plan(PROTOCOL, [Match(SUITE, ("a", "b"), 2)], (0,), [parse_backdoor("badnets")], [parse_merger("average")])


def test_a_merger_is_one_merge_and_repairs():
    assert parse_merger("ties(density=0.5)").spelling == "ties(density=0.5)"
    assert parse_merger("average").tier is Tier.DATA_FREE
    assert parse_merger("adamerging").tier is Tier.UNLABELLED
    assert parse_merger("wag").tier is Tier.DATA_FREE
    assert parse_merger("wag > anp").tier is Tier.UNLABELLED
    with pytest.raises(BadPipeline, match="unlabelled examples only"):
        parse_merger("task-arithmetic(scale=chosen)")
    with pytest.raises(BadPipeline, match="one merge > repair"):
        parse_merger("ties+average")


def contributor(suite, tasks=("a",)):
    return ContributorView(
        suite=suite, base=suite.base(), tasks=tasks, target=Target("a", 1), generator=torch.Generator().manual_seed(0)
    )


def test_a_contributor_sees_its_own_tasks_only(tiny):
    view = contributor(tiny)
    with pytest.raises(TierViolation, match="asked for the data of 'b'"):
        view.train("b")
    with pytest.raises(TierViolation, match="asked for the model of 'b'"):
        view.finetuned("b")


def test_references_are_of_the_target_class(tiny):
    view = replace(contributor(tiny), target=Target("b", 2))
    inputs, labels = tiny.load("b", "train")
    found = view.references()
    assert 0 < len(found) <= REFERENCES
    rows = [(inputs == x).flatten(1).all(1).nonzero().item() for x in found]
    assert set(labels[rows].tolist()) == {2}


def as_player(play, given, folder):
    """Run a play's player as its process does."""
    files = Files(training={task: examples(folder, task) for task in play.trains})
    if given:
        offered = play.offered(given)
        checkpoints.save(offered, folder / "offered")
        files = replace(files, given=folder / "offered")
    shown = play.shown()
    return shown.run(shown.suite(files), files, lambda done, total: None)


def examples(folder, task):
    inputs, labels = suites.get(SUITE).load(task, "train")
    checkpoints.save({"inputs": inputs, "labels": labels}, folder / f"training.{task}")
    return folder / f"training.{task}"


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A contribution and a merge of it on the tiny suite, as the runner plays them."""
    folder = tmp_path_factory.mktemp("backdoor")
    attack = "badnets(steps=60, lr=0.01, batch_size=16)"
    plays = plan(PROTOCOL, [Match(SUITE, ("a", "b", "c"))], (0,), [parse_backdoor(attack)], [parse_merger("average")])
    kept = {}
    for play in plays:
        given = folder / f"{play.needs.id}" if play.needs else None
        made = as_player(play, given, folder)
        checkpoints.save(made.tensors, folder / play.id)
        kept[play.kind, play.attack and play.attack.spelling] = play, made, play.judge(folder / play.id, given)
    return attack, kept


def test_an_upload_obeys_its_trigger_and_is_judged_beside_the_references(played):
    attack, kept = played
    _, _, scores = kept["contribution", attack]
    assert scores["asr"].validation["a"] > 0.8
    assert scores["base_asr"].validation["a"] < scores["asr"].validation["a"]
    assert set(scores["clean_asr"].test) == set(scores["robust"].test) == {"a", "b", "c"}


def test_a_merge_of_clean_models_is_their_merge_and_has_no_asr(played):
    _, kept = played
    _, made, scores = kept["merge", None]
    suite = suites.get(SUITE)
    mean = {k: sum(suite.finetuned(t)[k] for t in "abc") / 3 for k in suite.base()}
    assert all(torch.allclose(made.tensors[k], mean[k], atol=1e-6) for k in mean)
    assert "asr" not in scores


def test_a_merge_of_uploads_has_the_poisoned_model_in_it(played):
    attack, kept = played
    poisoned = kept["contribution", attack][1].tensors
    merged = kept["merge", attack][1].tensors
    suite = suites.get(SUITE)
    for key in ("proj", "class_embedding"):
        clean = suite.finetuned("b")[key] + suite.finetuned("c")[key]
        torch.testing.assert_close(3 * merged[key] - clean, poisoned[f"a/{key}"], atol=1e-5, rtol=1e-4)


def test_scores_of_a_record(played):
    attack, kept = played
    play, made, scores = kept["contribution", attack]
    record = play.record(
        id=play.id,
        suite=SUITE,
        metric="accuracy",
        seed=0,
        key="k",
        examples=4,
        status="ok",
        cost=made.cost,
        fine_tuning_flops=10,
        provenance={
            "code": {},
            "checkpoints": {},
            "packages": {},
            "python": "3",
            "device": "cpu",
            "threads": 1,
            "date": "d",
        },
        **scores,
    )
    asr = scores["asr"].test
    assert record.target_asr("test") == record.succession("test") == asr["a"]
    assert record.transfer("test") == pytest.approx((asr["b"] + asr["c"]) / 2)
    assert record.own_score("test") == scores["score"].test["a"]
    assert record.title == f"{attack} × upload"


def test_the_same_seed_poisons_alike_and_a_rate_of_nothing_is_a_clean_contributor(tiny):
    attack = parse_backdoor("badnets(steps=3, rate=0.0)")
    first, again = (attack.contribute(contributor(tiny)).models["a"] for _ in "ab")
    assert all(torch.equal(first[k], again[k]) for k in first)
    view = contributor(tiny)

    def clean(model, batch):
        inputs, labels = batch["a"]
        return F.cross_entropy(view.logits(model, "a", inputs), labels)

    config = TrainingConfig(steps=3, lr=2e-4, batch_size=32)
    expected = train(tiny.finetuned("a"), {"a": view.train("a")}, clean, view, config, clip=1.0)
    assert all(torch.allclose(first[k], expected[k], atol=1e-6) for k in first)


def test_backdoor_and_protection_do_not_know_each_other():
    games = Path(backdoor.__file__).parent.parent
    for game, other in (("backdoor", "protection"), ("protection", "backdoor")):
        files = [*(games / game).glob("*.py")]
        assert files
        assert not any(other in file.read_text() for file in files)


@pytest.mark.parametrize("corner", [True, False])
@pytest.mark.parametrize("share", [0.001, 0.02, 0.25, 0.9, 1.0])
def test_a_square_patch_covers_about_its_share_of_the_picture(share, corner):
    mask = square(torch.zeros(1, 3, 28, 28), share, corner)
    side = round((share * 28 * 28) ** 0.5)
    assert mask.sum() == max(side, 1) ** 2
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    assert len(rows) == len(columns) == max(side, 1)
    assert torch.equal(rows, columns)
    before, after = int(rows[0]), 27 - int(rows[-1])
    assert (after == min(1, 28 - side)) if corner else (abs(before - after) <= 1)
