"""Merges that mask, drop or weigh entries, worked by hand and by their identities."""

import math
from types import SimpleNamespace

import pytest
import torch

from mergearena.attacks.merge.average import average
from mergearena.attacks.merge.breadcrumbs import Breadcrumbs
from mergearena.attacks.merge.consensus import Consensus
from mergearena.attacks.merge.della import Della, drop_rates
from mergearena.attacks.merge.localize_and_stitch import LocalizeAndStitch
from mergearena.attacks.merge.model_stock import ModelStock, ratio
from mergearena.attacks.merge.pcb import PCB
from mergearena.attacks.merge.slerp import slerp
from mergearena.bench.errors import BadConfig


def view(*shape, dtype=torch.float32):
    return SimpleNamespace(base={"w": torch.zeros(shape, dtype=dtype)}, generator=torch.Generator().manual_seed(0))


def models(*rows, dtype=torch.float32):
    return {str(i): {"w": torch.as_tensor(row, dtype=dtype)} for i, row in enumerate(rows)}


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Breadcrumbs


def test_breadcrumbs_by_hand():
    """Of ten entries the largest goes (gamma) and the three smallest, which leaves six."""
    row = [10.0, -9.0, 8.0, -7.0, 6.0, 5.0, -4.0, 3.0, 2.0, -1.0]
    merged = Breadcrumbs(density=0.6, gamma=0.1, scale=1.0).merge(models(row), view(10))
    assert merged["w"].tolist() == [0.0, -9.0, 8.0, -7.0, 6.0, 5.0, -4.0, 0.0, 0.0, 0.0]


def test_breadcrumbs_masks_every_tensor_on_its_own():
    seen = SimpleNamespace(base={"small": torch.zeros(10), "large": torch.zeros(10)})
    row = torch.arange(1.0, 11.0)
    merged = Breadcrumbs(scale=1.0, density=0.5, gamma=0.2).merge({"a": {"small": row, "large": 100 * row}}, seen)
    assert merged["small"].tolist() == [0, 0, 0, 4, 5, 6, 7, 8, 0, 0]
    assert torch.equal(merged["large"], 100 * merged["small"])


@pytest.mark.parametrize(
    ("density", "gamma", "kept"), [(0.9, 0.01, 900), (0.9, 0.5, 900), (1.0, 0.3, 1000), (0.0, 0.1, 0)]
)
def test_breadcrumbs_keeps_the_density_whatever_gamma_is(density, gamma, kept):
    row = noise(1000)
    merged = Breadcrumbs(density=density, gamma=gamma, scale=1.0).merge(models(row), view(1000))
    assert merged["w"].count_nonzero() == kept


def test_breadcrumbs_of_a_constant_or_single_entry_keeps_it():
    for row in ([2.0] * 50, [3.0]):
        assert Breadcrumbs(scale=1.0).merge(models(row), view(len(row)))["w"].tolist() == row


# DELLA


@pytest.mark.parametrize("width", [1, 2, 5, 64])
def test_della_drop_rates_average_to_p_and_fall_with_magnitude(width):
    rows = noise(3, width)
    rates = drop_rates(rows, 0.3, 0.07)
    torch.testing.assert_close(rates.mean(1), torch.full((3,), 0.3, dtype=torch.float64))
    by_magnitude = rates.gather(1, rows.abs().argsort(1))
    assert (by_magnitude.diff(dim=1) < 0).all()
    if width > 1:
        assert by_magnitude[:, 0].tolist() == pytest.approx([0.37] * 3)
        assert by_magnitude[:, -1].tolist() == pytest.approx([0.23] * 3)


def test_della_keeps_the_expectation_of_one_model():
    """Each entry is 0 with its drop rate and tau / (1 - p) otherwise, so many merges average to tau."""
    row, seen = [1.0, -2.0, 3.0, 4.0], view(4)
    merges = torch.stack([Della(drop=0.5, window=0.3, scale=1.0).merge(models(row), seen)["w"] for _ in range(3000)])
    torch.testing.assert_close(merges.mean(0), torch.tensor(row), rtol=0.12, atol=0)
    rates = torch.tensor([0.8, 0.6, 0.4, 0.2])
    torch.testing.assert_close((merges == 0).float().mean(0), rates, rtol=0, atol=0.04)
    torch.testing.assert_close(merges.abs().amax(0), torch.tensor(row).abs() / (1 - rates))


def test_della_without_dropping_elects_and_averages():
    merged = Della(drop=0.0, window=0.0, scale=1.0).merge(models([4.0, 3.0, 0.0], [-6.0, 5.0, 2.0]), view(3))
    assert merged["w"].tolist() == [-6.0, 4.0, 2.0]


def test_della_ranks_within_rows():
    """A row of small entries is dropped as often as a row of large ones."""
    row = noise(2, 4000).abs() * torch.tensor([[1.0], [1000.0]], dtype=torch.float64)
    kept = Della(drop=0.5, window=0.2, scale=1.0).merge(models(row), view(2, 4000))["w"] != 0
    assert kept.float().mean(1).tolist() == pytest.approx([0.5, 0.5], abs=0.04)


@pytest.mark.parametrize("config", [{"drop": 0.05}, {"drop": 0.95}, {"window": 0.4}, {"drop": 0.5, "window": 0.5}])
def test_della_refuses_probabilities_beyond_0_and_1(config):
    with pytest.raises(BadConfig, match="window"):
        Della(**config)


# SLERP


def test_slerp_of_orthogonal_models_by_hand():
    merged = slerp(models([2.0, 0.0], [0.0, 2.0]), view(2), t=1 / 3)["w"]
    expected = [2 * math.sin(math.pi / 3), 2 * math.sin(math.pi / 6)]
    assert merged.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("space", ["weights", "task-vectors"])
def test_slerp_ends_at_the_models_and_keeps_their_length_between(space):
    first, second = noise(50, seed=1), noise(50, seed=2)
    second *= first.norm() / second.norm()
    seen = view(50, dtype=torch.float64)
    merged = {t: slerp(models(first, second, dtype=torch.float64), seen, t=t, space=space)["w"] for t in (0, 0.25, 1)}
    torch.testing.assert_close(merged[0], first)
    torch.testing.assert_close(merged[1], second)
    assert merged[0.25].norm().item() == pytest.approx(first.norm().item())
    angles = [(a @ b / first.norm() ** 2).acos().item() for a, b in ((first, merged[0.25]), (first, second))]
    assert angles[0] == pytest.approx(angles[1] / 4)


@pytest.mark.parametrize("second", [[1.0, 2.0], [3.0, 6.0], [0.0, 0.0], [-1.0, -2.0]])
def test_slerp_of_parallel_opposite_and_zero_models_is_interpolation(second):
    merged = slerp(models([1.0, 2.0], second), view(2), t=0.25)["w"]
    torch.testing.assert_close(merged, 0.75 * torch.tensor([1.0, 2.0]) + 0.25 * torch.tensor(second))


def test_slerp_in_the_space_of_task_vectors_is_around_the_base():
    base = {"w": torch.tensor([10.0, 10.0])}
    pair = {"a": {"w": torch.tensor([12.0, 10.0])}, "b": {"w": torch.tensor([10.0, 12.0])}}
    merged = slerp(pair, SimpleNamespace(base=base), space="task-vectors")["w"]
    assert merged.tolist() == pytest.approx([10 + 2**0.5, 10 + 2**0.5])


def test_slerp_folds_many_parallel_models_to_their_mean():
    many = models([1.0, 2.0], [2.0, 4.0], [6.0, 12.0], [-1.0, -2.0])
    assert slerp(many, view(2))["w"].tolist() == pytest.approx(average(many, view(2))["w"].tolist())


def test_slerp_of_many_takes_no_t():
    with pytest.raises(BadConfig, match="leave t out"):
        slerp(models([1.0], [2.0], [3.0]), view(1), t=0.3)


# Model Stock


def test_model_stock_by_hand():
    """Two task vectors at 60 degrees: t = 2 (1/2) / (1/2 + 1) = 2/3."""
    merged = ModelStock().merge(models([1.0, 0.0], [0.5, 3**0.5 / 2]), view(2))["w"]
    assert merged.tolist() == pytest.approx([2 / 3 * 0.75, 2 / 3 * 3**0.5 / 4])


def test_model_stock_of_identical_models_is_the_model():
    row = noise(30, dtype=torch.float32)
    merged = ModelStock().merge(models(row, row, row), view(30))["w"]
    torch.testing.assert_close(merged, row)


def test_model_stock_is_the_orthocentre_of_base_and_models():
    """Equal lengths and angles: from the merged model, every model is seen at a right angle to the others."""
    for k, cos in ((2, 0.5), (3, 0.2), (5, 0.7)):
        rows = torch.linalg.cholesky((1 - cos) * torch.eye(k, dtype=torch.float64) + cos)
        merged = ratio(rows) * rows.mean(0)
        products = (rows - merged) @ rows.T
        torch.testing.assert_close(products - products.diagonal().diag(), torch.zeros(k, k, dtype=torch.float64))


def test_model_stock_ratio_stays_between_base_and_average():
    assert ratio(torch.tensor([[1.0, 0.0], [0.0, 1.0]])) == 0
    assert ratio(torch.tensor([[1.0, 0.0], [-1.0, 0.1]])) == 0
    assert ratio(torch.tensor([[1.0, 0.0], [0.0, 0.0]])) == 0
    assert ratio(torch.tensor([[0.3, -2.0]])) == 1


# Consensus


def test_consensus_by_hand():
    merged = Consensus(mask=0.5, scale=1.0).merge(models([3.0, 4.0, 4.0], [3.5, -5.0, 1.0]), view(3))
    # 3 > 3.5 / 2 and 3.5 > 3 / 2: both use it; so do 4 > 5 / 2 and 5 > 4 / 2; 4 > 1 / 2 but 1 < 4 / 2: one alone.
    assert merged["w"].tolist() == [6.5, -1.0, 0.0]


def test_consensus_of_one_or_none_is_task_arithmetic():
    many = models(noise(20, seed=1), noise(20, seed=2), noise(20, seed=3))
    total = sum(model["w"] for model in many.values())
    merged = Consensus(mask=0.0, agree=1, scale=1.0).merge(many, view(20))["w"]
    torch.testing.assert_close(merged, total)


def test_consensus_keeps_less_the_more_must_agree():
    many = models(*(noise(500, seed=seed) for seed in range(4)))
    kept = [int(Consensus(agree=k).merge(many, view(500))["w"].count_nonzero()) for k in (1, 2, 3, 4)]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > kept[-1]


# Localize-and-Stitch


def test_localize_and_stitch_by_hand():
    """Each keeps its two largest of five; where both do, their mean, whatever their signs."""
    many = models([5.0, 4.0, 1.0, 0.5, 0.1], [-3.0, 0.2, 6.0, 0.3, 0.1])
    merged = LocalizeAndStitch(density=0.4).merge(many, view(5))
    assert merged["w"].tolist() == [1.0, 4.0, 6.0, 0.0, 0.0]


def test_localize_and_stitch_of_whole_models_is_the_average():
    many = models(noise(30, seed=1), noise(30, seed=2))
    torch.testing.assert_close(LocalizeAndStitch(density=1.0).merge(many, view(30))["w"], average(many, view(30))["w"])


def test_localize_and_stitch_ranks_over_all_tensors_together():
    seen = SimpleNamespace(base={"w": torch.zeros(3), "b": torch.zeros(2)})
    model = {"w": torch.tensor([5.0, -4.0, 1.0]), "b": torch.tensor([-3.0, 0.5])}
    merged = LocalizeAndStitch(density=0.6).merge({"a": model}, seen)
    assert (merged["w"].tolist(), merged["b"].tolist()) == ([5.0, -4.0, 0.0], [-3.0, 0.0])


# PCB


def test_pcb_is_its_definition():
    tau = 0.01 * torch.stack([noise(400, seed=seed) for seed in (1, 2, 3)])
    merged = PCB(density=0.1, scale=1.0).merge(models(*tau, dtype=torch.float64), view(400, dtype=torch.float64))["w"]
    share = tau.abs() / tau.abs().amax(1, keepdim=True)
    beta = (3 * share**2).exp() * (tau * tau.sum(0)).tanh()
    weight = torch.zeros_like(beta)
    for row, source in zip(weight, beta, strict=True):
        top = source.topk(40)
        row[top.indices] = (top.values - top.values.min()) / (top.values.max() - top.values.min())
    expected = (weight * tau).sum(0) / weight.sum(0).clamp(min=1e-12)
    torch.testing.assert_close(merged, expected)


def test_pcb_ignores_what_one_outlier_does_to_the_scale():
    """Twenty thousand entries: the two largest are clipped to the third, so that their size does not matter."""
    row = noise(20_000)
    row[0], huge = 50.0, row.clone()
    huge[0] = 5000.0
    plain, spiked = (PCB(scale=1.0).merge(models(r, r.flip(0)), view(20_000))["w"] for r in (row, huge))
    torch.testing.assert_close(plain[1:-1], spiked[1:-1], rtol=1e-4, atol=1e-6)


def test_pcb_of_one_model_keeps_its_largest_entries():
    row = noise(1000)
    merged = PCB(density=0.1, scale=1.0).merge(models(row), view(1000))["w"]
    kept = row.abs() > row.abs().sort(descending=True).values[99]
    torch.testing.assert_close(merged, torch.where(kept, row, 0).float())
