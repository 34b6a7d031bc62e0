"""Merges entry by entry, layer by layer and on the sphere: tiny cases by hand, fixed points and optimality."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergearena.attacks.merge.depth import depths
from mergearena.attacks.merge.karcher import karcher, spherical_mean
from mergearena.attacks.merge.lines import LiNeS
from mergearena.attacks.merge.magmax import MagMax, largest
from mergearena.attacks.merge.nuslerp import nuslerp, slerp_rows
from mergearena.attacks.merge.sce import SCE
from mergearena.attacks.merge.slerp import slerp
from mergearena.attacks.merge.task_arithmetic import TaskArithmetic
from mergearena.attacks.merge.tatr import TATR, conflict
from mergearena.bench.errors import BadConfig

close = torch.testing.assert_close
seeds = st.integers(0, 2**31)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def view(shape):
    """``w`` is in the symmetry map, ``table`` is not."""
    base = {"w": torch.zeros(shape, dtype=torch.float64), "table": torch.zeros(shape, dtype=torch.float64)}
    return SimpleNamespace(
        base=base, architecture=SimpleNamespace(mlps=[SimpleNamespace(keys=("w",))], attentions=[], norms=())
    )


def merged(merge, *matrices):
    """Both tensors of the merge of task vectors that have the same matrix in both."""
    play = getattr(merge, "merge", merge)
    return play({str(i): {"w": m, "table": m} for i, m in enumerate(matrices)}, view(matrices[0].shape))


# magmax, sce, tatr


@given(seeds, st.integers(1, 5))
@settings(deadline=None)
def test_magmax_picks_the_larger(seed, count):
    stack = noise(count, 11, seed=seed)
    found = largest(stack.clone())
    close(found.abs(), stack.abs().amax(0))
    assert (found == stack).any(0).all()


def test_magmax_by_hand():
    first, second = torch.tensor([[1.0, -3.0]]).double(), torch.tensor([[-2.0, 2.0]]).double()
    close(merged(MagMax(), first, second)["w"], torch.tensor([[-1.0, -1.5]]).double())


def test_sce_by_hand():
    """Half of four entries are selected, (3, -1) and (2, 4): eta = 13 : 17; the first entry's sign is that of 3 - 1."""
    first, second = torch.tensor([[3.0, 2.0, 1.0, 1.0]]).double(), torch.tensor([[-1.0, 4.0, 1.5, 1.0]]).double()
    expected = torch.tensor([[3, 13 / 30 * 2 + 17 / 30 * 4, 0, 0]]).double()
    close(merged(SCE(density=0.5), first, second)["w"], expected)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_sce_of_models_that_agree_is_the_model(count):
    tau = noise(3, 4)
    close(merged(SCE(), *[tau] * count)["w"], tau)


def test_conflict_by_hand():
    close(conflict(torch.tensor([[1.0, -2.0], [3.0, 0.0], [-1.0, 5.0]])), torch.tensor([2 * (3 + 1 + 3.0), 2 * 10.0]))


def test_tatr_drops_the_entries_that_tasks_fight_over_most():
    first, second = torch.arange(1.0, 11).view(2, 5).double(), torch.arange(1.0, 11).view(2, 5).double()
    found = merged(TATR(conflict=0.2, scale=1.0), first, -2 * second)["w"]
    expected = -first.clone()
    expected[1, 3:] = 0
    close(found, expected)


def test_tatr_of_one_model_or_without_conflict_is_task_arithmetic():
    taus = [noise(3, 4, seed=seed) for seed in (1, 2)]
    close(merged(TATR(conflict=0.0), *taus), merged(TaskArithmetic(), *taus))
    close(merged(TATR(conflict=0.5), taus[0]), merged(TaskArithmetic(), taus[0]))


# lines


def block(number):
    name = f"blocks.{number}"
    return SimpleNamespace(keys=(f"{name}.attn.q",)), SimpleNamespace(keys=(f"{name}.mlp.in", f"{name}.mlp.out"))


def tower():
    attentions, mlps = zip(*map(block, range(11)), strict=True)
    norms = [SimpleNamespace(keys=("blocks.3.norm", "blocks.3.attn.q")), SimpleNamespace(keys=("post", "head"))]
    return SimpleNamespace(attentions=attentions, mlps=mlps, norms=norms)


def test_depths_of_a_tower():
    keys = ["head", "embedding", "blocks.0.norm", "blocks.1.attn.q", "blocks.10.mlp.in", "post"]
    assert depths(tower(), dict.fromkeys(keys)) == dict(zip(keys, [12, 0, 1, 2, 11, 12], strict=True))


def test_lines_grows_linearly_from_the_average():
    keys = ["embedding", *(f"blocks.{i}.mlp.in" for i in range(11)), "head"]
    base = {key: torch.zeros(2) for key in keys}
    models = {t: {key: torch.full((2,), x) for key in keys} for t, x in (("a", 1.0), ("b", 3.0))}
    found = LiNeS(beta=1.0).merge(models, SimpleNamespace(base=base, architecture=tower()))
    coefficients = [found[key][0].item() / 4 for key in keys]
    assert coefficients == pytest.approx([0.5, *(0.5 + i / 10 for i in range(11)), 1.5])


def test_a_flat_line_is_task_arithmetic(attacker):
    seen = attacker()
    models = {"a": seen.released, **seen.donors}
    close(LiNeS(alpha=0.8, beta=0.0).merge(models, seen), TaskArithmetic(scale=0.8).merge(models, seen))


@pytest.mark.parametrize("beta", [0.3])
def test_every_block_of_a_real_tower_has_its_own_coefficient(attacker, beta):
    seen = attacker()
    depth = depths(seen.architecture, seen.base)
    assert [depth[k] for k in ("conv1.weight", "ln_pre.weight", "ln_post.weight", "proj")] == [0, 0, 3, 3]
    assert {depth[k] for k in seen.base if k.startswith("transformer.resblocks.1.")} == {2}
    found = LiNeS(beta=beta).merge({"a": seen.released}, seen)
    close(found["proj"] - seen.base["proj"], (1 + beta) * (seen.released["proj"] - seen.base["proj"]))


# on the sphere


@given(seeds)
@settings(deadline=None)
def test_the_karcher_mean_of_two_is_slerp_half_way(seed):
    first, second = noise(7, seed=seed), noise(7, seed=seed + 1)
    second *= first.norm() / second.norm()
    models = {"a": {"w": first}, "b": {"w": second}}
    seen = SimpleNamespace(base={"w": torch.zeros(7).double()})
    close(karcher(models, seen)["w"], slerp(models, seen)["w"], rtol=1e-6, atol=1e-8)


def test_the_karcher_mean_is_as_long_as_the_models_on_average_and_nearest_to_all():
    rows = noise(4, 6).abs() * torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    units = rows / rows.norm(dim=1, keepdim=True)
    found = karcher({str(i): {"w": row} for i, row in enumerate(rows)}, SimpleNamespace(base={"w": rows[0] * 0}))["w"]
    close(found.norm(), rows.norm(dim=1).mean())

    def spread(direction):
        return (units @ (direction / direction.norm())).clamp(-1, 1).acos().square().sum()

    found.requires_grad_()
    (gradient,) = torch.autograd.grad(spread(found), [found])
    close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-4)


def test_directions_that_cancel_are_averaged_and_zeros_shorten_only():
    def mean(*rows):
        models = {str(i): {"w": torch.tensor(row).double()} for i, row in enumerate(rows)}
        return karcher(models, SimpleNamespace(base={"w": torch.zeros(len(rows[0])).double()}))["w"].tolist()

    assert mean([1.0, 0.0], [-3.0, 0.0]) == pytest.approx([-1.0, 0.0])
    assert mean([2.0, 0.0], [0.0, 0.0]) == pytest.approx([1.0, 0.0])
    assert mean([2.0], [-1.0]) == pytest.approx([0.5])


def test_a_right_angle_is_halved():
    found = spherical_mean(torch.eye(2).double(), torch.tensor([1.0, 0.0]).double(), 50, 1e-12)
    close(found, torch.tensor([0.5, 0.5]).double().sqrt())


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_nuslerp_is_slerp_of_each_row_or_column(t):
    first, second = noise(3, 4, seed=1), noise(3, 4, seed=2)
    by_row, by_column = (
        merged(lambda m, v, per=per: nuslerp(m, v, t=t, per=per), first, second)["w"] for per in ("row", "column")
    )
    arc = lambda a, b: merged(lambda m, v: slerp(m, v, t=t, space="task-vectors"), a[None], b[None])["w"][0]  # noqa: E731
    close(by_row, torch.stack([arc(*pair) for pair in zip(first, second, strict=True)]))
    close(by_column, torch.stack([arc(*pair) for pair in zip(first.T, second.T, strict=True)], dim=1))


def test_nuslerp_of_rows_that_are_parallel_or_zero_is_plain():
    first, second = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[2.0, 4.0], [3.0, 1.0]])
    close(slerp_rows(first, second, 0.25), torch.lerp(first, second, 0.25))


def test_nuslerp_refuses_a_place_between_three():
    with pytest.raises(BadConfig, match="leave t out"):
        merged(lambda m, v: nuslerp(m, v, t=0.2), *(noise(2, 2, seed=s) for s in range(3)))
