"""Recalibrated norms: every layer's statistics are exactly those of its parents."""

import pytest
import torch
from torch import nn

from conftest import bert
from mergearena.attacks.recover.distill import teacher
from mergearena.attacks.recover.norm_recalibrate import meet, moments, moments_of, norm_recalibrate, norms, reestimate
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.merging.kernels import average
from mergearena.bench.players.tier import Tier
from tiny_suite import TinySuite, randomized


class TinyTexts(TinySuite):
    """Texts of 2 to 7 tokens, the second task's padded by two columns more, for a post-norm net: 5 norms in a row."""

    def load(self, task, split):
        g = torch.Generator().manual_seed(ord(task))
        length = 7 if task == "a" else 9
        ids = torch.randint(1, 40, (12, length), generator=g)
        return ids * (torch.arange(length) < 2 + torch.arange(12)[:, None] % 6), torch.zeros(12, dtype=torch.long)

    def encoder(self):
        torch.manual_seed(0)
        return randomized(bert(), 0)

    def features(self, model, inputs):
        real = inputs != 0
        hidden = model(input_ids=inputs, attention_mask=real.long()).last_hidden_state
        return (hidden * real[..., None]).sum(1) / real.sum(1, keepdim=True)

    def head(self, task):
        return torch.randn(3, 24, generator=torch.Generator().manual_seed(ord(task)))


@pytest.fixture(params=["images", "texts"])
def parents(request, attacker):
    """An attacker who may read inputs, and a merge whose norms differ from its parents'."""
    view = attacker(tier=Tier.UNLABELLED)
    if request.param == "texts":
        suite = TinyTexts()
        changed = {
            "suite": suite,
            "base": suite.base(),
            "released": suite.finetuned("a"),
            "donors": {"b": suite.finetuned("b")},
            "examples": {t: suite.load(t, "train") for t in "ab"},
        }
        view = AttackerView(**{**vars(view), **changed})
    return view, average([view.base, *view.donors.values()])


def one_by_one(state, task, view):
    """Every norm's mean and mean square over a task's examples, each run alone and without its padding."""
    model, rows = view.model(state), {}
    for name, layer in norms(model).items():
        layer.register_forward_hook(
            lambda _, __, y, name=name: rows.setdefault(name, []).append(y.detach().double().flatten(0, -2))
        )
    for x in view.unlabelled(task):
        view.logits(model, task, (x if x.is_floating_point() else x[x != 0])[None])
    both = {name: torch.cat(r) for name, r in rows.items()}
    return {name: torch.stack([r.mean(0), r.square().mean(0)]) for name, r in both.items()}


def mean_of(left, right):
    return {name: (left[name] + right[name]) / 2 for name in left}


def states_alike(view):
    return AttackerView(**{**vars(view), "donors": {"b": view.released}})


def test_recalibrating_an_unmerged_model_changes_nothing(parents):
    view = states_alike(parents[0])
    again = norm_recalibrate(view.released, view)
    for key, value in view.released.items():
        torch.testing.assert_close(again[key], value, rtol=1e-5, atol=1e-6)


def test_moments_count_every_task_the_same_and_no_padding(parents):
    view, merged = parents
    inputs = {t: view.unlabelled(t) for t in "ab"}
    found = moments(view.model(merged), {"a": inputs["a"][:4], "b": inputs["b"]}, view)
    few = AttackerView(**{**vars(view), "examples": {"a": (inputs["a"][:4], None), "b": (inputs["b"], None)}})
    expected = mean_of(one_by_one(merged, "a", few), one_by_one(merged, "b", few))
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)


def test_every_norm_in_a_row_meets_the_statistics_of_its_parents(parents):
    view, merged = parents
    before = {k: v.clone() for k, v in merged.items()}
    goal = mean_of(*(one_by_one(teacher(t, view), t, view) for t in "ab"))
    changed = norm_recalibrate(merged, view)

    def distances(state):
        ours = mean_of(*(one_by_one(state, t, view) for t in "ab"))
        return [(ours[name] - goal[name]).abs().max().item() for name in goal]

    assert len(goal) >= 5
    assert min(distances(merged)) > 1e-3
    assert max(distances(changed)) < 1e-4
    assert all(torch.equal(merged[k], before[k]) for k in before)
    model = view.model(merged)
    recalibrated = {f"{name}.{part}" for name in norms(model) for part in ("weight", "bias")}
    assert {k for k in merged if not torch.equal(changed[k], merged[k])} == recalibrated


def test_moments_of_outputs_by_hand():
    """Tasks of one and of two examples: their means are averaged, and padding (9) is left out."""
    real = torch.tensor([[True, False], [True, True], [True, False]])
    tokens = torch.tensor([[1.0, 9], [2, 4], [6, 9]])[..., None]
    assert moments_of(tokens, real, [1, 2]).tolist() == [[(1 + 12 / 3) / 2], [(1 + 56 / 3) / 2]]
    pooled = torch.tensor([[3.0], [1], [5]])  # one output per text
    assert moments_of(pooled, real, [1, 2]).tolist() == [[3.0], [(9 + 13) / 2]]


def test_recalibration_reads_no_more_than_its_budget(parents):
    view, merged = parents
    norm_recalibrate(merged, view, k=3)
    assert view.reads.unlabelled == {"a": 3, "b": 3}


@pytest.mark.parametrize("layer", [nn.LayerNorm(5), nn.RMSNorm(5), nn.LayerNorm(5, bias=False)])
def test_meeting_moments_in_closed_form(layer):
    g = torch.Generator().manual_seed(0)
    layer, rows = layer.double(), torch.randn(40, 5, generator=g, dtype=torch.float64)

    def found():
        y = layer(rows).detach()
        return torch.stack([y.mean(0), y.square().mean(0)])

    mean, spread = torch.randn(5, generator=g).double(), torch.rand(5, generator=g).double() + 0.5
    goal = torch.stack([mean, mean.square() + spread])
    meet(layer, found(), goal)
    torch.testing.assert_close(found()[1], goal[1])
    if getattr(layer, "bias", None) is not None:
        torch.testing.assert_close(found()[0], goal[0])


def test_a_channel_that_never_varies_keeps_its_weight():
    layer = nn.LayerNorm(3).double()
    with torch.no_grad():
        layer.weight[1] = 0
    meet(layer, torch.tensor([[0.0, 0, 0], [1.0, 0, 1]]).double(), torch.tensor([[0.0, 2, 0], [1.0, 5, 4]]).double())
    assert layer.weight.tolist() == [1, 0, 2]
    assert layer.bias.tolist() == [0, 2, 0]


def test_batch_norms_take_the_statistics_of_their_inputs(attacker):
    class Normed(TinySuite):
        batch_size = 10

        def encoder(self):
            return nn.BatchNorm1d(4).double().eval()

        def outputs(self, model, task, inputs):
            return model(inputs)

    x = {t: torch.randn(20, 4, generator=torch.Generator().manual_seed(i)).double() for i, t in enumerate("ab")}
    view = AttackerView(**{**vars(attacker()), "suite": Normed()})
    model = Normed().encoder()
    reestimate(model, x, view)
    torch.testing.assert_close(model.running_mean, torch.cat(list(x.values())).mean(0))
    parts = [part.var(0) for rows in x.values() for part in rows.split(10)]
    torch.testing.assert_close(model.running_var, torch.stack(parts).mean(0))
    assert not model.training
