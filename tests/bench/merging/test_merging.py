"""Task-vector kernels against whole-tensor formulas, and what they may and may not touch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergearena.bench.merging import vectors as module
from mergearena.bench.merging.kernels import (
    add_task_vector,
    average,
    drop_and_rescale,
    elect_and_average,
    isotropic,
    matrices,
    thresholds,
    ties,
    trim,
)
from mergearena.bench.merging.vectors import _PIECE, DroppedVectors, TaskVectors
from mergearena.bench.symmetry.architecture import architecture_of

SHAPES = {"w": (7, 5), "b": (3,), "scalar": (), "empty": (0, 4), "deep": (2, 3, 4)}


def state(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        key: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for key, shape in SHAPES.items()
    }
    return {**tensors, "index": torch.arange(4)}


@pytest.fixture
def vectors():
    return TaskVectors([state(1), state(2), state(3)], state(0))


@pytest.fixture(params=[1, 5, 16, 1 << 19])
def piece(request, monkeypatch):
    """Pieces of every size, down to one entry of each vector."""
    monkeypatch.setattr(module, "_PIECE", request.param)


def flat(tensors):
    return torch.cat([value.reshape(-1) for key, value in tensors.items() if key != "index"])


def whole(vectors):
    """T x N, by definition."""
    return torch.stack(
        [
            weight * (flat(model) - flat(vectors.base))
            for model, weight in zip(vectors.models, vectors.weights, strict=True)
        ]
    )


def test_pieces_put_together_are_the_task_vectors(piece):
    vectors = TaskVectors([state(1), state(2)], state(0), weights=[1.0, -0.5])
    assert vectors.size == 7 * 5 + 3 + 1 + 24
    torch.testing.assert_close(torch.cat([p.clone() for p in vectors.pieces()], dim=1), whole(vectors), rtol=0, atol=0)


@pytest.mark.parametrize("stride", [2, 3, 7, 40, 100])
def test_a_stride_takes_every_so_manieth_entry_across_tensors(vectors, piece, stride):
    taken = torch.cat([p.clone() for p in vectors.pieces(stride)], dim=1)
    assert torch.equal(taken, whole(vectors)[:, ::stride])


def test_elementwise_is_the_formula_on_whole_vectors(piece):
    vectors = TaskVectors([state(1), state(2), state(3)], state(0))
    merged = vectors.elementwise(lambda stack: stack.prod(0))
    assert {key: value.shape for key, value in merged.items()} == {key: torch.Size(s) for key, s in SHAPES.items()}
    torch.testing.assert_close(flat(merged), whole(vectors).prod(0))


def test_map_sees_whole_tensors(vectors):
    merged = vectors.map(lambda key, stack: stack.sum(0) * len(key))
    torch.testing.assert_close(merged["deep"], 4 * whole(vectors).sum(0)[-24:].view(2, 3, 4))


def test_functions_may_overwrite_pieces_and_never_the_models(piece):
    models, base = [state(1), state(2)], state(0)
    vectors = TaskVectors(models, base)
    vectors.elementwise(lambda stack: stack.zero_().sum(0))
    ties(vectors, 0.3)
    for model, seed in zip([base, *models], (0, 1, 2), strict=True):
        assert all(torch.equal(model[key], value) for key, value in state(seed).items())


def test_memory_is_one_piece_however_large_the_model():
    """The buffer holds a bounded number of entries; results alone grow with the model."""
    base = {"w": torch.zeros(3_000_000)}
    vectors = TaskVectors([base] * 4, base)
    thresholds(vectors, 600_000)
    ties(vectors, 0.2)
    assert vectors._buffer.numel() <= _PIECE


def test_half_precision_models_are_merged_in_single():
    base = {"w": torch.full((64,), 100.0, dtype=torch.bfloat16)}
    models = [{"w": base["w"] + 1.0}, {"w": base["w"] - 0.5}]
    total = TaskVectors(models, base, [0.25, 1.0]).elementwise(lambda stack: stack.sum(0))["w"]
    assert total.dtype == torch.float32
    assert total.tolist() == [0.25 * 1.0 - 0.5] * 64
    assert add_task_vector(base, {"w": total}, 2.0)["w"].dtype == torch.bfloat16


def test_transposed_tensors_merge_as_they_read(piece):
    base = {"w": torch.zeros(3, 2).T}
    model = {"w": torch.arange(6.0).view(3, 2).T}
    merged = TaskVectors([model], base).elementwise(lambda stack: stack[0])
    assert torch.equal(merged["w"], model["w"])


@given(st.integers(0, 70), st.integers(0, 1000))
def test_thresholds_leave_as_many_entries_as_were_asked_for(count, seed):
    vectors = TaskVectors([state(seed + 1), state(seed + 2)], state(seed))
    limits = torch.tensor(thresholds(vectors, count))
    assert (whole(vectors).abs() >= limits[:, None]).sum(1).tolist() == [min(count, vectors.size)] * 2


def test_thresholds_of_other_values_than_magnitudes(vectors):
    largest = thresholds(vectors, 1, of=lambda stack: stack.sum(0) - stack)
    torch.testing.assert_close(torch.tensor(largest), (whole(vectors).sum(0) - whole(vectors)).amax(1))


def test_trim_keeps_what_equals_its_limit():
    stack = torch.tensor([[1.0, -2.0, 0.5], [1.0, -2.0, 0.5]])
    assert trim(stack, [1.0, float("inf")]).tolist() == [[1.0, -2.0, 0.0], [0.0, 0.0, 0.0]]
    smallest = 2.0**-149
    assert trim(torch.tensor([[0.0, smallest]]), [smallest]).tolist() == [[0.0, smallest]]


def test_election_by_hand():
    """Zeros neither vote nor count; a draw elects nobody."""
    elected = elect_and_average(torch.tensor([[1.0, 0.0, 2.0, 5.0], [-1.0, 3.0, 4.0, -1.0], [0.0, 0.0, 0.0, -2.0]]))
    assert elected.tolist() == [0.0, 3.0, 3.0, 5.0]


@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
def test_ties_is_its_definition(vectors, piece, density):
    tau = whole(vectors)
    kept = round(density * tau.shape[1])
    trimmed = torch.zeros_like(tau)
    for row, source in zip(trimmed, tau, strict=True):
        largest = source.abs().topk(kept).indices
        row[largest] = source[largest]
    agrees = (trimmed.sign() == trimmed.sum(0).sign()) & (trimmed != 0)
    expected = (trimmed * agrees).sum(0) / agrees.sum(0).clamp(min=1)
    torch.testing.assert_close(flat(ties(vectors, density)), expected)


def test_ties_of_models_equal_to_their_base_is_zero():
    assert flat(ties(TaskVectors([state(0), state(0)], state(0)), 0.2)).count_nonzero() == 0


def test_dropped_entries_are_the_same_in_every_pass_and_rescaled(vectors):
    dropped = DroppedVectors(vectors, 0.25, torch.Generator().manual_seed(0))
    first, second = (torch.cat([p.clone() for p in dropped.pieces()], dim=1) for _ in range(2))
    assert torch.equal(first, second)
    kept = first != 0
    torch.testing.assert_close(first[kept], whole(vectors)[kept] / 0.75)


@pytest.mark.parametrize("drop", [0.0, 0.3, 0.9, 0.9999999])
def test_dropping_keeps_the_expectation(drop):
    ones = TaskVectors([{"w": torch.ones(400_000)}], {"w": torch.zeros(400_000)})
    values = torch.cat(
        [p.clone() for p in DroppedVectors(ones, drop, torch.Generator().manual_seed(0)).pieces()], dim=1
    )
    p = 1 - 1 / values.max().item()  # what was left of the drop rate after rounding
    assert p == pytest.approx(drop, abs=2**-16)
    error = 5 * (p / (1 - p) / values.numel()) ** 0.5
    assert values.mean().item() == pytest.approx(1, abs=max(error, 1e-6))


def test_dropped_neighbours_and_models_are_independent():
    ones = TaskVectors([{"w": torch.ones(100_000)}] * 2, {"w": torch.zeros(100_000)})
    first, second = torch.cat([p.clone() for p in DroppedVectors(ones, 0.5, torch.Generator()).pieces()], dim=1) > 0
    for left, right in [(first, second), (first[1:], first[:-1]), (first[4:], first[:-4])]:
        assert (left == right).float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_drop_and_rescale_is_zero_or_rescaled_and_repeats():
    dropped = [
        drop_and_rescale({"w": torch.full((1000,), 3.0)}, 0.75, torch.Generator().manual_seed(0)) for _ in range(2)
    ]
    assert set(dropped[0]["w"].tolist()) == {0.0, 12.0}
    assert torch.equal(dropped[0]["w"], dropped[1]["w"])
    drawn = torch.empty(1000).bernoulli_(0.25, generator=torch.Generator().manual_seed(0))
    assert torch.equal(dropped[0]["w"], 12 * drawn)


def test_isotropic_keeps_singular_vectors_and_the_sum_of_singular_values():
    matrix = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flattened = isotropic(matrix)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(torch.linalg.svdvals(flattened), s.mean().expand(4))
    torch.testing.assert_close(u.T @ flattened @ vh.T, s.mean() * torch.eye(4, dtype=torch.float64))
    assert isotropic(torch.zeros(3, 2)).tolist() == [[0.0] * 2] * 3


def test_average_is_the_mean_and_leaves_the_models_alone():
    models = [state(1), state(2), state(3)]
    mean = average(models)
    torch.testing.assert_close(flat(mean), torch.stack([flat(m) for m in models]).mean(0))
    assert torch.equal(mean["index"], models[0]["index"])
    assert torch.equal(models[0]["w"], state(1)["w"])


def test_matrices_are_the_weights_of_the_blocks(family):
    model = family()
    found = matrices(architecture_of(model), model.state_dict())
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    kinds = torch.nn.Linear | torch.nn.MultiheadAttention
    inside = [m for m in model.modules() if isinstance(m, kinds) and m is not head]
    weights = {id(p) for m in inside for p in m.parameters() if p.ndim == 2}
    assert found == {name for name, p in model.named_parameters() if id(p) in weights}
