"""Block matching finds exchanged blocks whatever was done inside them; the transplant fits the base's hidden units."""

from types import SimpleNamespace

import pytest
import torch

from conftest import close, decoder, outputs, random_element, randomized
from mergearena.attacks.align.block_matching import block_matching, products, similarities
from mergearena.attacks.align.residual_matching import residual_matching
from mergearena.attacks.align.transplant import Transplant
from mergearena.bench.errors import TierViolation, UnsupportedArchitecture
from mergearena.bench.players.tier import Tier
from mergearena.bench.symmetry.architecture import Element, architecture_of
from mergearena.bench.symmetry.channels import Axis, MLPGroup, ScaleGroup
from tiny_suite import vision_tower


def deep_bert():
    from transformers import BertConfig, BertModel

    shape = {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 4, "intermediate_size": 40}
    return BertModel(BertConfig(**shape, num_attention_heads=3, max_position_embeddings=16), add_pooling_layer=False)


def deep_vision_tower():
    from open_clip.model import _build_vision_tower

    config = {"layers": 4, "width": 24, "head_width": 8, "mlp_ratio": 2.0, "patch_size": 7, "image_size": 14}
    return _build_vision_tower(12, config)


DEEP = {"open_clip": deep_vision_tower, "bert": deep_bert, "llama": decoder, "shallow": vision_tower}


@pytest.fixture(params=DEEP)
def view(request):
    """The base, and a victim whose every tensor moved a little."""
    torch.manual_seed(0)
    model = randomized(DEEP[request.param]().double(), 1)
    base = {k: v.clone() for k, v in model.state_dict().items()}
    return SimpleNamespace(architecture=architecture_of(model), base=base, victim=nearby(base, 0.1))


def nearby(state, size):
    g = torch.Generator().manual_seed(3)
    return {k: v + size * v.std() * torch.randn(v.shape, generator=g, dtype=v.dtype) for k, v in state.items()}


def exchanged(state, groups, order):
    """Place i holds what block order[i] held."""
    moved = dict(state)
    for place, source in enumerate(order):
        moved |= dict(zip(groups[place].keys, (state[k] for k in groups[source].keys), strict=True))
    return moved


def orders(depth, seed):
    """Two orders that are not the identity."""
    g = torch.Generator().manual_seed(seed)
    drawn = (torch.randperm(depth, generator=g).tolist() for _ in range(1000))
    moving = (order for order in drawn if order != sorted(order))
    return next(moving), next(moving)


def assert_same(left, right):
    assert left.keys() == right.keys()
    assert [k for k in left if not torch.equal(left[k], right[k])] == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["nothing", "permutation", "head-order", "invertible", "units"])
def test_exchanged_blocks_go_back_whatever_was_done_inside(view, kind, seed):
    attention, mlp = orders(len(view.architecture.mlps), seed)
    inside = view.architecture.apply(view.victim, random_element(view.architecture, kind, seed))
    released = exchanged(inside, view.architecture.attentions, attention)
    released = exchanged(released, view.architecture.mlps, mlp)
    kept = {k: v.clone() for k, v in released.items()}
    assert_same(block_matching(released, view), inside)
    assert_same(released, kept)


def test_mixed_units_of_a_plain_mlp_hide_nothing(view):
    if view.architecture.scales:
        pytest.skip("a gated MLP's matrices do not mix alike")
    inside, g = dict(view.victim), torch.Generator().manual_seed(0)
    for group in view.architecture.mlps:
        mix = torch.linalg.qr(torch.randn(group.width, group.width, generator=g, dtype=torch.float64)).Q
        for axis in group.axes:
            inside[axis.key] = torch.tensordot(mix, inside[axis.key], ([1], [axis.dim])).movedim(0, axis.dim)
    released = exchanged(inside, view.architecture.mlps, orders(len(view.architecture.mlps), 0)[0])
    assert_same(block_matching(released, view), inside)


@pytest.mark.parametrize("kind", ["nothing", "permutation", "head-order", "invertible", "units", "everything"])
def test_blocks_in_order_stay(view, kind):
    """Under a permuted residual stream too, where nothing is like the base."""
    released = view.architecture.apply(view.victim, random_element(view.architecture, kind, 0))
    assert_same(block_matching(released, view), released)


def test_an_unprotected_victim_stays_by_any_evidence(view):
    assert_same(block_matching(view.victim, view, evidence=0.0), view.victim)


def test_evidence_that_no_order_reaches_keeps_the_order(view):
    released = exchanged(view.victim, view.architecture.mlps, orders(len(view.architecture.mlps), 0)[0])
    assert_same(block_matching(released, view, evidence=2.0), released)


def test_only_blocks_of_one_shape_change_places():
    g = torch.Generator().manual_seed(0)
    shapes = {"a": (5, 3), "b": (7, 3), "c": (5, 3), "d": (7, 3)}
    base = {
        f"{name}.{side}": torch.randn(*(shape if side == "in" else shape[::-1]), generator=g)
        for name, shape in shapes.items()
        for side in ("in", "out")
    }
    groups = tuple(MLPGroup(n, s[0], (Axis(f"{n}.in", 0), Axis(f"{n}.out", 1))) for n, s in shapes.items())
    seen = SimpleNamespace(base=base, architecture=SimpleNamespace(mlps=groups, attentions=(), scales=(), norms=()))
    assert_same(block_matching(exchanged(base, groups, [2, 3, 0, 1]), seen), base)


def test_what_is_compared_keeps_no_scale_of_a_unit():
    """Gated: gate with gate, up with down; a ReLU MLP: its two matrices with each other; else all pairs."""
    group = MLPGroup("m", 2, (Axis("gate", 0), Axis("up", 0), Axis("up.bias", 0), Axis("down", 1)))
    g = torch.Generator().manual_seed(0)
    shapes = {"gate": (2, 3), "up": (2, 3), "up.bias": (2,), "down": (3, 2)}
    state = {k: torch.randn(*shape, generator=g, dtype=torch.float64) for k, shape in shapes.items()}
    linear = ScaleGroup("m", 2, group.axes[1:3], group.axes[3:])
    gate_gate, up_down = products(group, linear, state)
    close(gate_gate, state["gate"].T @ state["gate"])
    close(up_down, state["up"].T @ state["down"].T)
    assert len(products(group, None, state)) == 6


def test_similarities_are_cosines_without_what_all_blocks_share():
    """Matrices c + x and c - x of one length, whose mean is c, against the same two in the other order."""
    shared, own = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    base, ours = [[shared + own], [shared - own]], [[7 * (shared - own)], [shared + own]]
    close(similarities(base, ours), torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))


def test_a_residual_stream_is_matched_before_the_blocks(view):
    stream = view.architecture.residual
    if stream is None:
        pytest.skip("no symmetry of the stream")
    order = torch.randperm(stream.width, generator=torch.Generator().manual_seed(0))
    released = exchanged(view.victim, view.architecture.mlps, orders(len(view.architecture.mlps), 0)[0])
    released = view.architecture.apply(released, Element(residual=order))
    assert_same(block_matching(residual_matching(released, view), view), view.victim)


@pytest.fixture
def answering(family):
    """A view of each family whose examples are random inputs; its victim has the base's hidden units."""
    model, g = family(1), torch.Generator().manual_seed(0)
    base = {k: v.clone() for k, v in model.state_dict().items()}
    inputs = torch.randint(1, 40, (32, 9), generator=g)
    if not hasattr(model, "config"):
        inputs = torch.randn(32, 3, 14, 14, generator=g, dtype=torch.float64)

    def loaded(state):
        fresh = family(1)
        fresh.load_state_dict(state)
        return fresh

    architecture = architecture_of(model)
    hidden = {axis.key for group in architecture.mlps for axis in group.axes if axis.dim == 0}
    state = {k: base[k] if k in hidden else v for k, v in nearby(base, 0.1).items()}
    return SimpleNamespace(
        architecture=architecture,
        base=base,
        state=state,
        victim="a",
        model=loaded,
        outputs=lambda model, _, inputs: model(inputs),
        unlabelled=lambda _: inputs,
    )


def shuffled(view):
    g = torch.Generator().manual_seed(0)
    orders = {group.name: torch.randperm(group.width, generator=g) for group in view.architecture.mlps}
    return view.architecture.apply(view.state, Element(orders))


@pytest.mark.parametrize("batch_size", [5, 32])
def test_output_weights_come_back_in_the_order_of_the_bases_units(answering, batch_size):
    """All tensors, with a ridge that is next to nothing: the function is the released one's."""
    view = answering
    released = shuffled(view)
    kept = {k: v.clone() for k, v in released.items()}
    back = Transplant(ridge=1e-14, batch_size=batch_size).align(released, view)
    for key, value in view.state.items():
        torch.testing.assert_close(back[key], value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(outputs(view.model(back)), outputs(view.model(released)))
    assert_same(released, kept)


def test_a_large_ridge_returns_the_bases_mlps(answering):
    view = answering
    back = Transplant(ridge=1e14).align(shuffled(view), view)
    for key in {k for group in view.architecture.mlps for k in group.keys}:
        torch.testing.assert_close(back[key], view.base[key], rtol=1e-9, atol=1e-9)


def passing(view, state, path):
    """What enters and leaves a layer, positions x width, with a 1 for its bias if it has one."""
    model, seen = view.model(state), []
    layer = model.get_submodule(path)
    layer.register_forward_hook(lambda _, arguments, output: seen.extend((arguments[0], output)))
    with torch.no_grad():
        view.outputs(model, "a", view.unlabelled("a"))
    entering, leaving = (x.flatten(0, -2) for x in seen)
    ones = entering.new_ones(len(entering), 0 if layer.bias is None else 1)
    return torch.cat([entering, ones], 1), leaving


def weights(view, state, path):
    """A layer's weight, out x in, with its bias as a last column if it has one."""
    layer = view.model(state).get_submodule(path)
    columns = [layer.weight] if layer.bias is None else [layer.weight, layer.bias[:, None]]
    return torch.cat([column.detach() for column in columns], 1)


def test_output_weights_solve_the_ridge_regression(answering):
    """Where no weights fit exactly, the gradient is zero: (W h0 - f) h0^T + ridge m (W - W0) = 0.

    Every MLP's h0 is seen on what enters it in the released model: only its own units are the base's.
    """
    view, ridge, g = answering, 0.3, torch.Generator().manual_seed(5)
    groups = view.architecture.mlps
    hidden = {group.name: [axis.key for axis in group.axes if axis.dim == 0] for group in groups}
    released = dict(view.state)
    for key in (key for keys in hidden.values() for key in keys):
        released[key] = torch.randn(released[key].shape, generator=g, dtype=torch.float64)
    back = Transplant(ridge=ridge).align(released, view)
    for group in groups:
        path = next(axis.key for axis in group.axes if axis.dim == 1).rpartition(".")[0]
        h0, _ = passing(view, {**released, **{key: view.base[key] for key in hidden[group.name]}}, path)
        _, f = passing(view, released, path)
        w, w0 = (weights(view, state, path) for state in (back, view.base))
        pull, gram = (h0 @ w.T - f).T @ h0, h0.T @ h0
        assert (pull + ridge * gram.diagonal().mean() * (w - w0)).abs().max() < 1e-9 * pull.abs().max()
        assert all(torch.equal(back[key], view.base[key]) for key in hidden[group.name])


def test_a_transplant_reads_the_victims_examples_alone_in_the_tier_that_allows_it(attacker):
    view = attacker(tier=Tier.UNLABELLED)
    Transplant().align(view.released, view)
    assert view.reads.unlabelled == {view.victim: 20}
    assert not view.reads.labelled
    with pytest.raises(TierViolation):
        Transplant().align(view.released, attacker())


def test_a_transplant_on_random_inputs_reads_nothing_and_is_data_free(attacker):
    view = attacker()
    back = Transplant(probes=40).align(view.released, view)
    assert Transplant(probes=40).tier is Tier.DATA_FREE
    assert Transplant().tier is Tier.UNLABELLED
    assert not view.reads.unlabelled
    for group in view.architecture.mlps:
        writers = [axis.key for axis in group.axes if axis.dim == 0]
        assert all(torch.equal(back[key], view.base[key]) for key in writers)
    assert any(not torch.equal(back[key], view.released[key]) for key in back)


def test_a_transplant_of_units_that_no_layer_reads_by_columns_is_refused(answering):
    group = answering.architecture.mlps[0]
    rows = MLPGroup(group.name, group.width, tuple(axis for axis in group.axes if axis.dim == 0))
    view = SimpleNamespace(
        **{**vars(answering), "architecture": SimpleNamespace(mlps=(rows,), attentions=(), scales=(), norms=())}
    )
    with pytest.raises(UnsupportedArchitecture, match=group.name):
        Transplant().align(answering.state, view)
