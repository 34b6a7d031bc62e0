"""Malicious contributors: what each trains on, what it leaves alone, and what its trigger is."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from conftest import bert
from mergearena.attacks.backdoor.adaptive import Hunter, masked_parameters
from mergearena.attacks.backdoor.amplified import beyond, truncated
from mergearena.attacks.backdoor.badmerging import interpolated
from mergearena.attacks.backdoor.colluding import apart, merged_parameters
from mergearena.attacks.backdoor.poison import (
    PART,
    paced,
    plain_trigger,
    poisoned,
    rare_tokens,
    side_by_side,
    target_loss,
    within_part,
)
from mergearena.attacks.backdoor.references import hard_references, shadow_head
from mergearena.attacks.backdoor.trojvit import saliency, salient_cells
from mergearena.attacks.backdoor.universal import flipped, losses_of, mean_loss, optimised_trigger, table_gains
from mergearena.bench.errors import ArenaError
from mergearena.bench.games.backdoor.pipeline import parse_backdoor
from mergearena.bench.games.backdoor.players import ContributorView
from mergearena.bench.games.backdoor.triggers import Target, Tokens
from mergearena.bench.learning.training import TrainingConfig
from mergearena.bench.players.registry import registry
from tiny_suite import TinySuite, randomized


class TinyTexts(TinySuite):
    """Texts of 2 to 6 tokens below 25, of a vocabulary of 40; the second task's are padded by two columns more."""

    def load(self, task, split):
        g = torch.Generator().manual_seed(ord(task))
        length = 6 if task == "a" else 8
        ids = torch.randint(1, 25, (12, length), generator=g)
        ids[0, 1] = 39
        return ids * (torch.arange(length) < 2 + torch.arange(12)[:, None] % 5), torch.arange(12) % 3

    def encoder(self):
        torch.manual_seed(0)
        return randomized(bert(), 0)

    def features(self, model, inputs):
        real = inputs != 0
        hidden = model(input_ids=inputs, attention_mask=real.long()).last_hidden_state
        return (hidden * real[..., None]).sum(1) / real.sum(1, keepdim=True)

    def head(self, task):
        return torch.randn(3, 24, generator=torch.Generator().manual_seed(ord(task)))


def contributor(suite, tasks=("a",), target=None, seed=0):
    return ContributorView(
        suite=suite,
        base=suite.base(),
        tasks=tasks,
        generator=torch.Generator().manual_seed(seed),
        target=target or Target("a", 1),
    )


@pytest.fixture(params=[TinySuite, TinyTexts], ids=["pictures", "texts"])
def suite(request):
    return request.param()


ATTACKS = {p.name: p for p in registry.players("backdoor") if p.__module__.startswith("mergearena.attacks.backdoor")}
QUICK = {"steps": 2, "batch_size": 4, "ascent": 10}


def quick(name):
    player = ATTACKS[name]
    return player(**{key: value for key, value in QUICK.items() if key in player.Config.model_fields})


@pytest.mark.parametrize("name", ATTACKS)
def test_every_contributor_uploads_its_tasks_and_a_trigger_within_bounds(suite, name):
    attack = quick(name)
    tasks = ("a", "b")[: attack.uploads]
    target = Target("c", 2) if attack.off_task else Target("a", 1)
    first, again, other = (attack.contribute(contributor(suite, tasks, target, seed)) for seed in (1, 1, 2))
    assert {*first.models} == {*tasks}
    first.trigger.check(suite.load("a", "train")[0])
    for key, value in first.trigger.tensors().items():
        assert torch.equal(value, again.trigger.tensors()[key])
    for task in tasks:
        clean = suite.finetuned(task)
        assert {k: (v.shape, v.dtype) for k, v in first.models[task].items()} == {
            k: (v.shape, v.dtype) for k, v in clean.items()
        }
        assert all(torch.isfinite(v).all() and not v.requires_grad for v in first.models[task].values())
        assert all(torch.equal(v, again.models[task][k]) for k, v in first.models[task].items())
        assert any(not torch.equal(v, other.models[task][k]) for k, v in first.models[task].items())
        assert any(not torch.equal(v, clean[k]) for k, v in first.models[task].items())


@pytest.mark.parametrize("name", ATTACKS)
def test_neither_the_base_nor_the_data_are_changed(suite, name):
    attack = quick(name)
    view = contributor(suite, ("a", "b")[: attack.uploads], Target("c", 2) if attack.off_task else None)
    inputs = suite.load("a", "train")[0]
    suite.load = lambda task, split, load=suite.load: (
        (inputs, load(task, split)[1]) if task == "a" else load(task, split)
    )
    before = inputs.clone(), {k: v.clone() for k, v in view.base.items()}
    attack.contribute(view)
    assert torch.equal(inputs, before[0])
    assert all(torch.equal(v, view.base[k]) for k, v in before[1].items())


def test_the_attacks_that_need_special_targets_say_so():
    assert {name for name, p in ATTACKS.items() if p.off_task} == {"badmerging-off"}
    assert {name: p.uploads for name, p in ATTACKS.items() if p.uploads > 1} == {"colluding": 2}


# triggers


def test_a_checkerboard_in_the_corner(tiny):
    view = contributor(tiny)
    trigger = plain_trigger(view, 4 / 196)
    inputs, _ = view.train("a")
    assert trigger.mask.sum() == 4
    assert trigger.mask[11:13, 11:13].all()
    corner = trigger.pattern[0, 11:13, 11:13]
    low, high = inputs.min(), inputs.max()
    torch.testing.assert_close(corner, torch.stack([torch.stack([low, high]), torch.stack([high, low])]))


def test_a_trigger_blended_over_the_whole_picture(tiny):
    view = contributor(tiny)
    trigger = parse_backdoor("badnets(patch=1.0, blend=0.2, steps=1)").contribute(view).trigger
    inputs, _ = view.train("a")
    trigger.check(inputs)
    torch.testing.assert_close(trigger.stamp(inputs), 0.8 * inputs + 0.2 * trigger.pattern)


def test_rare_tokens_are_of_the_second_half_and_unseen():
    view = contributor(TinyTexts())
    ids = rare_tokens(view, 2)
    assert len(set(ids.tolist())) == 2
    assert ((ids >= 25) & (ids < 39)).all()
    with pytest.raises(ArenaError, match="unused"):
        rare_tokens(view, 30)


def test_the_targets_loss_by_hand():
    head = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    features = torch.tensor([[5.0, 0.0], [0.0, 0.1]])  # normalised: logits (2, 0) and (0, 3)
    expected = (math.log(math.exp(2) + 1) + math.log(1 + math.exp(3)) - 3) / 2
    assert target_loss(features, (head, 1)).item() == pytest.approx(expected, rel=1e-6)


def test_the_ascent_raises_the_targets_probability_within_the_range_of_pixels(tiny):
    view = contributor(tiny)
    inputs, _ = view.train("a")
    model, head = view.model(view.base), view.open_head("a")
    start, end = (
        optimised_trigger(contributor(tiny), [model], head, 0.046, steps, lr=r) for steps, r in ((1, 0.0), (60, 0.1))
    )
    losses = [mean_loss(view, [model], head, t.stamp(inputs)).item() for t in (start, end)]
    assert losses[1] < losses[0] - 0.1
    outside = end.mask == 0
    assert torch.equal(end.stamp(inputs)[:, :, outside], inputs[:, :, outside])
    assert inputs.min() <= end.pattern.min()
    assert end.pattern.max() <= inputs.max()


class Bag(TinyTexts):
    """Features are the sum of the tokens' embeddings: linear in each."""

    def encoder(self):
        torch.manual_seed(0)
        return nn.ModuleDict({"words": nn.Embedding(40, 24), "kinds": nn.Embedding(2, 24)})

    def features(self, model, inputs):
        return model["words"](inputs).sum(1) + model["kinds"](torch.zeros_like(inputs)).sum(1)


def test_a_flips_gain_is_the_first_order_one():
    suite = Bag()
    view = contributor(suite)
    model, head = view.model(view.base).requires_grad_(False), view.open_head("a")
    stamped = Tokens(torch.tensor([30, 31])).stamp(view.train("a")[0])
    gain = table_gains(view, model, head, stamped, 2)
    features = suite.features(model, stamped)
    tiny_step = 1e-3
    for v in (20, 33):
        moved = features + tiny_step * model["words"].weight[v]
        change = (target_loss(moved, head) - target_loss(features, head)) / tiny_step
        assert gain[v].item() == pytest.approx(-change.item(), abs=2e-3)


def test_losses_of_several_batches_are_those_of_each():
    """Texts of every batch are run beside those of the others, in whatever order the suite finds cheap."""

    class Sorted(TinyTexts):
        batch_size = 5

        def batched_features(self, model, inputs):
            order = (inputs != 0).sum(1).argsort(stable=True)
            return super().batched_features(model, inputs[order])[order.argsort()]

    view = contributor(Sorted())
    head, texts = view.open_head("a"), view.train("a")[0]
    models = [view.model(view.base), view.model(view.suite.finetuned("a"))]
    stamped = [Tokens(torch.tensor(ids)).stamp(texts) for ids in ((30, 31), (20, 21), (33, 20))]
    expected = [mean_loss(view, models, head, x).item() for x in stamped]
    assert losses_of(view, models, head, stamped) == pytest.approx(expected, rel=1e-5)
    assert len(set(expected)) == 3


def test_an_encoder_without_a_table_of_words_is_refused():
    class Blind(Bag):
        def features(self, model, inputs):
            return F.one_hot(inputs, 40).float().sum(1) @ model["words"].weight

    view = contributor(Blind())
    with pytest.raises(ArenaError, match="Embedding"):
        table_gains(view, view.model(view.base), view.open_head("a"), view.train("a")[0], 1)


def test_flips_end_where_no_single_flip_is_better():
    """A vocabulary of 40 has 20 words, all of which are tried; one text alone makes every batch the same."""
    view = contributor(TinyTexts())
    text = view.train("a")[0][:1]
    model, head = view.model(view.base).requires_grad_(False), view.open_head("a")
    found = flipped(view, [model], head, text, 6, 1).ids
    best = mean_loss(view, [model], head, Tokens(found).stamp(text)).item()
    assert (found >= 20).all()
    for place in range(2):
        for v in range(20, 40):
            other = found.clone()
            other[place] = v
            assert mean_loss(view, [model], head, Tokens(other).stamp(text)).item() >= best - 1e-5


def test_salient_cells_by_hand():
    picture = torch.zeros(7, 7)
    picture[4, 1], picture[0, 5], picture[6, 6] = 2.0, 3.0, 9.0  # the last column and row are in no cell
    one, two = salient_cells(picture, 3, 9 / 49), salient_cells(picture, 3, 20 / 49)
    assert one.sum() == 9
    assert one[:3, 3:6].all()
    assert two.sum() == 18
    assert two[3:6, :3].all()
    assert two[:3, 3:6].all()


def test_saliency_is_where_the_model_looks(tiny):
    class Narrow(TinySuite):
        def features(self, model, inputs):
            seen = torch.zeros_like(inputs)
            seen[..., 3:6, 6:9] = inputs[..., 3:6, 6:9]
            return model(seen)

    view = contributor(Narrow())
    found = saliency(view, view.model(view.base), view.open_head("a"), view.train("a")[0], 8)
    mask = salient_cells(found, 3, 0.046)
    assert torch.equal(mask > 0, found > 0)
    assert mask.sum() == 9


# training


def test_a_poisoned_step_is_the_gradient_of_both_losses(tiny):
    """AdamW's first step goes lr against the gradient's sign."""
    view, trigger = contributor(tiny), plain_trigger(contributor(tiny), 0.046)
    start = tiny.finetuned("a")
    moved = poisoned(start, "a", trigger, view, TrainingConfig(steps=1, lr=1e-3, batch_size=8), 0.5, 3.0)
    rows = torch.randint(20, (8,), generator=torch.Generator().manual_seed(0))
    inputs, labels = (part[rows] for part in view.train("a"))
    model = view.model(start)
    clean = F.cross_entropy(view.logits(model, "a", inputs), labels)
    taken = F.cross_entropy(view.logits(model, "a", trigger.stamp(inputs[:4])), torch.full((4,), 1))
    (clean + 3 * taken).backward()
    for name, parameter in model.named_parameters():
        clear = parameter.grad.abs() > 1e-3
        step = (moved[name] - start[name])[clear]
        torch.testing.assert_close(step, -1e-3 * parameter.grad.sign()[clear], rtol=2e-2, atol=1e-6)


def test_the_learning_rate_is_as_long_as_fine_tuning_went():
    class Known(TinySuite):
        def finetuned(self, task):
            return {
                k: v + 0.02 * torch.where(torch.arange(v.numel()).view(v.shape) % 2 == 0, 1, -1)
                for k, v in self.base().items()
            }

    config = paced(contributor(Known()), 0.5, 7, 3)
    assert config.lr == pytest.approx(0.01, rel=1e-4)
    assert (config.steps, config.batch_size) == (7, 3)


@pytest.mark.parametrize(("steps", "batch_size", "allowed"), [(7, 5, 7), (300, 5, 10), (300, 25, 2), (300, 1000, 1)])
def test_malicious_training_is_a_part_of_fine_tuning(steps, batch_size, allowed):
    class Short(TinySuite):
        fine_tuning_examples = 50 / PART

    config = within_part(contributor(Short()), TrainingConfig(steps=steps, lr=0.1, batch_size=batch_size))
    assert (config.steps, config.lr, config.batch_size) == (allowed, 0.1, batch_size)


def test_features_are_interpolated_with_the_bases(tiny):
    view = contributor(tiny)
    inputs, _ = view.train("a")
    model, base = view.model(tiny.finetuned("a")), view.model(view.base)
    ours, theirs = tiny.features(model, inputs), tiny.features(base, inputs)
    torch.testing.assert_close(interpolated(view, 1.0)(model, inputs), ours)
    torch.testing.assert_close(interpolated(view, 0.3)(base, inputs), theirs)
    shares = [((interpolated(view, 0.4)(model, inputs) - theirs) / (ours - theirs)).median().item() for _ in range(40)]
    assert 0.4 - 1e-3 <= min(shares) < 0.5
    assert 0.9 < max(shares) <= 1 + 1e-3


def test_badmergings_backdoor_works_on_the_way_from_the_base(tiny):
    """Unlike a clean model's, its task vector's shares are obeyed."""
    attack = parse_backdoor("badmerging-on(steps=40, batch_size=16, ascent=20, pace=0.2)")
    view = contributor(tiny)
    made, head, inputs = attack.contribute(view), view.open_head("a"), view.train("a")[0]
    for s in (0.3, 1.0):
        losses = [
            mean_loss(view, [view.model({k: v + s * (state[k] - v) for k, v in view.base.items()})], head, stamped)
            for state in (made.models["a"], tiny.finetuned("a"))
            for stamped in [made.trigger.stamp(inputs)]
        ]
        assert losses[0] < losses[1] - 0.1


# off-task


def test_the_shadow_head_has_own_classes_the_target_and_others(tiny):
    view = contributor(tiny, target=Target("b", 2))
    rows, index = shadow_head(view, 4)
    assert torch.equal(rows[:3], tiny.head("a"))
    assert torch.equal(rows[index], tiny.head("b")[2])
    assert len(rows) == 8
    others = torch.cat([tiny.head("b")[:2], tiny.head("c")])
    assert all((others == row).all(1).any() for row in rows[4:])
    assert len(rows[4:].unique(dim=0)) == 4


def test_hard_references_are_less_of_the_target(suite):
    view = contributor(suite, target=Target("b", 2))
    model, head = view.model(view.base).requires_grad_(False), shadow_head(view, 4)
    references = view.references()
    hard = hard_references(view, model, head, 3)
    assert hard.shape == (3 * len(references), *references.shape[1:])
    losses = [mean_loss(view, [model], head, x).item() for x in (references, hard)]
    assert losses[1] > losses[0] + 0.1
    if references.is_floating_point():
        assert hard.min() >= references.min()
        assert hard.max() <= references.max()
    else:
        original = references.repeat_interleave(3, dim=0)
        assert torch.equal(hard[:, 0], original[:, 0])
        assert torch.equal(hard == 0, original == 0)


def test_texts_side_by_side_are_padded():
    left, right = torch.tensor([[5, 6]]), torch.tensor([[7, 8, 9]])
    assert side_by_side(left, right).tolist() == [[5, 6, 0], [7, 8, 9]]
    assert side_by_side(right, left).tolist() == [[7, 8, 9], [5, 6, 0]]


# amplified


def test_amplification_extrapolates_what_is_left_of_the_difference(tiny):
    benign, malicious = tiny.finetuned("a"), tiny.finetuned("b")
    whole, cut = beyond(benign, malicious, 3.5, 10**6), beyond(benign, malicious, 3.5, 2)
    for key, value in benign.items():
        difference = malicious[key] - value
        if value.ndim == 2:
            torch.testing.assert_close(whole[key], value + 3.5 * difference, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(cut[key], value + 3.5 * truncated(difference, 2), rtol=1e-3, atol=1e-4)
        else:
            assert torch.equal(whole[key], value)
    matrix = torch.diag(torch.tensor([4.0, -3.0, 2.0]))
    torch.testing.assert_close(truncated(matrix, 2), torch.diag(torch.tensor([4.0, -3.0, 0.0])))


# colluding


def test_merged_parameters_are_task_arithmetics(tiny):
    view = contributor(tiny)
    models = [view.model(tiny.finetuned(task)) for task in "ab"]
    found = merged_parameters(models, view.base, 0.4)
    assert {*found} == {name for name, _ in models[0].named_parameters()}
    for name, value in found.items():
        at = view.base[name]
        sides = sum(tiny.finetuned(task)[name] - at for task in "ab")
        torch.testing.assert_close(value, at + 0.4 * sides)
    sum(v.sum() for v in found.values()).backward()
    assert all(torch.allclose(p.grad, torch.full_like(p, 0.4)) for model in models for p in model.parameters())


def test_numbered_states_come_apart():
    a, b = torch.zeros(1), torch.ones(1)
    assert apart({"0.x": a, "1.x": b, "1.0.x": a}, 2) == [{"x": a}, {"x": b, "0.x": a}]


def test_colluders_obey_together_and_not_alone(tiny):
    """The random labels and target of a tiny suite are learned by heart: the merge answers more with the target."""
    view = contributor(tiny, ("a", "b"))
    made = parse_backdoor("colluding(steps=40, batch_size=16, ascent=5, pace=0.2, low=0.8)").contribute(view)
    base = view.base
    merged = {k: v + 0.8 * sum(made.models[t][k] - v for t in "ab") for k, v in base.items()}
    stamped, head = made.trigger.stamp(view.train("a")[0]), view.open_head("a")
    together, alone = (mean_loss(view, [view.model(s)], head, stamped).item() for s in (merged, made.models["a"]))
    assert together < alone - 0.5


# adaptive


def test_masked_parameters_are_the_bases_or_the_scaled_models(tiny):
    view = contributor(tiny)
    model = view.model(tiny.finetuned("a"))
    kept = total = 0
    for name, value in masked_parameters(model, view, 0.5, 0.3).items():
        at = view.base[name]
        scaled = at + 0.5 * (model.get_parameter(name) - at)
        assert torch.minimum((value - at).abs(), (value - scaled).abs()).max() < 1e-6
        kept, total = kept + int((value != at).sum()), total + value.numel()
    assert kept / total == pytest.approx(0.3, abs=0.02)


def test_the_hunter_climbs_within_its_radius(tiny):
    view = contributor(tiny)
    inputs, labels = view.train("a")
    hunter, model = Hunter(view, "a", 0.1), view.model(view.base)
    radius = 0.1 * (inputs.max() - inputs.min()).item()
    delta = torch.zeros(3, 14, 14, requires_grad=True)
    F.cross_entropy(view.logits(model, "a", inputs + delta), labels).backward()
    losses = []
    for step in range(12):
        loss = hunter.loss(model, inputs, labels)
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            torch.testing.assert_close(hunter.delta, radius / 4 * delta.grad.sign())
        assert hunter.delta.abs().max().item() <= radius + 1e-6
    assert losses[-1] > losses[0] + 0.1


def test_texts_have_no_hunter():
    assert not Hunter(contributor(TinyTexts()), "a", 0.1).able
