"""Merges that read what layers compute on examples: closed forms on one layer, identities on a tower."""

from types import SimpleNamespace

import pytest
import torch
from test_merge_data import OneLayer, view_of

from mergearena.attacks.merge.cat import cat, removal_basis, without_conflicts
from mergearena.attacks.merge.chain_of_merges import chain_of_merges
from mergearena.attacks.merge.esm import esm, essential, principal
from mergearena.attacks.merge.regmean import gram_matrices, nearest, regmean
from mergearena.attacks.merge.regmean_plusplus import regmean_plusplus
from mergearena.attacks.merge.task_arithmetic import TaskArithmetic
from mergearena.bench.errors import TierViolation
from mergearena.bench.players.tier import Tier

close = torch.testing.assert_close
MERGES = [regmean_plusplus, chain_of_merges, esm, cat]


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parents(view):
    return {"a": view.released, **view.donors}


def layers(view):
    """The keys of the linear layers, in the order of the forward pass."""
    return list(gram_matrices(view.base, "a", view.unlabelled("a")[:1], view))


def blocks(view):
    return {key: int(key.split(".")[2]) for key in layers(view)}


@pytest.fixture
def view(attacker):
    return attacker(tier=Tier.UNLABELLED)


# all


@pytest.mark.parametrize(
    ("merge", "count"),
    [(regmean_plusplus, 1), (regmean_plusplus, 2), (chain_of_merges, 1), (chain_of_merges, 2), (esm, 1)],
)
def test_models_that_are_one_merge_to_it(merge, count, view):
    close(merge(dict.fromkeys("ab"[:count], view.released), view), view.released, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("merge", MERGES)
def test_inputs_are_left_alone_and_what_comes_back_is_a_finite_model(merge, view):
    before = {task: {k: v.clone() for k, v in state.items()} for task, state in parents(view).items()}
    found = merge(parents(view), view)
    close(parents(view), before, rtol=0, atol=0)
    assert {k: (v.shape, v.dtype) for k, v in found.items()} == {k: (v.shape, v.dtype) for k, v in view.base.items()}
    assert all(v.isfinite().all() for v in found.values())


@pytest.mark.parametrize("merge", MERGES)
def test_what_each_reads(merge, attacker, view):
    merge(parents(view), view, examples=4)
    assert view.reads.unlabelled == {"a": 4, "b": 4}
    with pytest.raises(TierViolation):
        merge(parents(view), attacker(tier=Tier.DATA_FREE))


@pytest.mark.parametrize("merge", MERGES)
def test_the_order_of_two_models_does_not_matter(merge, view):
    there, back = (merge(dict(order(parents(view).items())), view) for order in (iter, lambda x: reversed([*x])))
    close(there, back, rtol=1e-4, atol=1e-5)


# regmean++ and chain of merges


def test_a_block_is_merged_on_what_its_own_model_computes_after_the_merged_ones(view):
    """The second block by hand: everything before it is the merged model's, the block itself each model's own."""
    found, place = regmean_plusplus(parents(view), view), blocks(view)
    assert {*place.values()} == {0, 1}
    mine = [key for key in view.base if key.startswith(("transformer.resblocks.1.", "ln_post", "proj"))]
    grams = [
        gram_matrices({**found, **{key: state[key] for key in mine}}, task, view.unlabelled(task), view)
        for task, state in parents(view).items()
    ]
    for key in (key for key, number in place.items() if number == 1):
        expected = nearest([s[key] for s in parents(view).values()], [g[key] for g in grams], 0.95)
        close(found[key], expected, rtol=1e-4, atol=1e-5)


def test_from_the_second_block_on_it_differs_from_regmean(view):
    plain, found = regmean(parents(view), view), regmean_plusplus(parents(view), view)
    assert any(not torch.allclose(plain[key], found[key], atol=1e-4) for key, n in blocks(view).items() if n == 1)


def test_where_one_layer_is_all_there_is_both_are_regmean():

    x = {t: noise(30, 5, seed=ord(t)) for t in "ab"}
    models = {t: {"weight": noise(3, 5, seed=ord(t) + 9), "bias": noise(3, seed=ord(t))} for t in "ab"}
    seen = view_of(OneLayer(5, 3, bias=True), x)
    vars(seen)["architecture"] = SimpleNamespace(attentions=(), mlps=(), norms=())
    expected = regmean(models, seen)
    close(regmean_plusplus(models, seen), expected)
    close(chain_of_merges(models, seen), expected)


def test_every_link_is_least_squares_on_what_the_merged_model_computes(view):
    found = chain_of_merges(parents(view), view, examples=20)
    for key in layers(view):
        grams = [gram_matrices(found, task, view.unlabelled(task), view, only={key})[key] for task in "ab"]
        close(found[key], nearest([s[key] for s in parents(view).values()], grams, 0.95), rtol=1e-4, atol=1e-5)


def test_grams_of_some_layers_are_those_of_all(view):
    inputs, every = view.unlabelled("a"), gram_matrices(view.base, "a", view.unlabelled("a"), view)
    some = [*every][1:3]
    found = gram_matrices(view.base, "a", inputs, view, only=some)
    assert [*found] == some
    close(found, {key: every[key] for key in some})


# esm


def test_esm_with_white_inputs_projects_onto_left_singular_vectors():
    taus = torch.stack([noise(6, 5, seed=seed) for seed in (1, 2)])
    eye = torch.eye(5).double()
    for tau in taus:
        p = principal(tau @ eye @ tau.T, 3)
        u = torch.linalg.svd(tau).U[:, :3]
        close(p @ p.T, u @ u.T)


def test_esm_of_one_layer_alone_is_its_task_vector():
    tau = noise(4, 5)
    x = noise(40, 5, seed=1)
    close(essential(tau[None], [x.T @ x]), tau)


def test_esm_sums_task_vectors_that_move_different_outputs():
    first, second = torch.zeros(6, 5).double(), torch.zeros(6, 5).double()
    first[:3], second[3:] = noise(3, 5, seed=1), noise(3, 5, seed=2)
    grams = [x.T @ x for x in (noise(40, 5, seed=3), noise(40, 5, seed=4))]
    close(essential(torch.stack([first, second]), grams), first + second)


def test_esm_keeps_the_direction_that_inputs_excite_over_the_one_of_the_larger_singular_value():
    tau = torch.diag(torch.tensor([5.0, 1.0])).double()
    gram = torch.diag(torch.tensor([0.0, 1.0])).double()
    kept = essential(torch.stack([tau, torch.zeros_like(tau)]), [gram, gram])
    close(kept, torch.diag(torch.tensor([0.0, 1.0])).double())


# cat


def test_cat_without_directions_is_task_arithmetic(view):
    close(cat(parents(view), view, directions=0), TaskArithmetic().merge(parents(view), view), rtol=1e-5, atol=1e-6)


def test_cat_of_one_model_is_task_arithmetic(view):
    alone = {"a": view.released}
    close(cat(alone, view), TaskArithmetic().merge(alone, view), rtol=1e-5, atol=1e-6)


def test_cat_cuts_the_output_by_which_one_task_disturbs_the_other():
    """Task b's vector writes output 0 from input 0, which only task a has, and output 1 from its own input 1."""
    first, second = torch.zeros(2, 2).double(), torch.diag(torch.tensor([3.0, 2.0])).double()
    grams = [torch.diag(torch.tensor(d)).double() for d in ([1.0, 0.0], [0.0, 1.0])]
    expected = torch.diag(torch.tensor([0.0, 2.0])).double()
    close(without_conflicts(torch.stack([first, second]), grams, 2, 1.0), expected)


def test_the_removal_basis_gains_most_and_never_loses():
    q = torch.linalg.qr(noise(4, 4)).Q
    gain = q @ torch.diag(torch.tensor([-3.0, 1.0, 2.0, -1.0])).double() @ q.T
    for directions, columns in ((0, []), (1, [2]), (3, [1, 2])):
        basis = removal_basis(gain, directions)
        close(basis @ basis.T, q[:, columns] @ q[:, columns].T)
