"""Merges through singular value decompositions: their identities on matrices whose decompositions are known."""

from types import SimpleNamespace

import pytest
import torch

from mergearena.attacks.merge.iso import Iso
from mergearena.attacks.merge.tsv import TSV, leading, nearest_orthonormal
from mergearena.bench.errors import BadConfig


def view(rows, columns):
    """One matrix in the symmetry map and one that is a table."""
    base = {
        "w": torch.zeros(rows, columns, dtype=torch.float64),
        "table": torch.zeros(rows, columns, dtype=torch.float64),
    }
    architecture = SimpleNamespace(mlps=[SimpleNamespace(keys=("w",))], attentions=[])
    return SimpleNamespace(base=base, architecture=architecture)


def models(*matrices):
    return {str(i): {"w": m, "table": m} for i, m in enumerate(matrices)}


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(rows, columns, seed):
    return torch.linalg.qr(noise(rows, columns, seed=seed)).Q


def low_rank(u, s, v):
    return u * torch.tensor(s, dtype=torch.float64) @ v.T


def test_nearest_orthonormal_is_and_is_nearest():
    matrix = noise(7, 3)
    q = nearest_orthonormal(matrix)
    torch.testing.assert_close(q.T @ q, torch.eye(3, dtype=torch.float64))
    # Optimality of Procrustes: q^T matrix is symmetric and positive.
    product = q.T @ matrix
    torch.testing.assert_close(product, product.T)
    assert torch.linalg.eigvalsh(product).min() > 0


def test_leading_triplets_leave_out_zeros():
    u, v = orthonormal(6, 2, 1), orthonormal(5, 2, 2)
    matrix = low_rank(u, [3.0, 1.0], v)
    assert [len(leading(matrix, rank)[1]) for rank in (1, 2, 3, 5)] == [1, 2, 2, 2]
    assert len(leading(torch.zeros(4, 3), 2)[1]) == 0


def test_tsv_of_orthogonal_task_vectors_is_their_sum():
    """Rank two each, in subspaces at right angles: nothing is cut, nothing to whiten."""
    u, v = orthonormal(8, 4, 1), orthonormal(6, 4, 2)
    first, second = low_rank(u[:, :2], [5.0, 3.0], v[:, :2]), low_rank(u[:, 2:], [4.0, 1.0], v[:, 2:])
    merged = TSV().merge(models(first, second), view(8, 6))
    torch.testing.assert_close(merged["w"], first + second)
    torch.testing.assert_close(merged["table"], (first + second) / 2)


def test_tsv_of_one_model_is_the_model():
    matrix = noise(5, 7)
    torch.testing.assert_close(TSV().merge(models(matrix), view(5, 7))["w"], matrix)


def test_tsv_keeps_every_task_singular_values_even_where_subspaces_overlap():
    tasks = [noise(12, 9, seed=seed) for seed in (1, 2, 3)]
    merged = TSV().merge(models(*tasks), view(12, 9))["w"]
    expected = torch.cat([torch.linalg.svdvals(task)[:3] for task in tasks]).sort(descending=True).values
    torch.testing.assert_close(torch.linalg.svdvals(merged), expected)


def test_tsv_is_not_disturbed_by_a_model_that_learned_nothing():
    u, v = orthonormal(8, 2, 1), orthonormal(6, 2, 2)
    task = low_rank(u, [5.0, 3.0], v)
    torch.testing.assert_close(TSV().merge(models(task, torch.zeros(8, 6).double()), view(8, 6))["w"], task)


def test_tsv_of_more_tasks_than_directions_is_finite():
    merged = TSV().merge(models(*(noise(3, 2, seed=seed) for seed in range(5))), view(3, 2))
    assert merged["w"].isfinite().all()


def test_iso_has_one_singular_value_the_mean_of_the_sums():
    tasks = [noise(6, 9, seed=seed) for seed in (1, 2, 3)]
    merged = Iso(scale=1.0).merge(models(*tasks), view(6, 9))
    u, s, vh = torch.linalg.svd(sum(tasks), full_matrices=False)
    torch.testing.assert_close(merged["w"], s.mean() * u @ vh)
    torch.testing.assert_close(torch.linalg.svdvals(merged["w"]), s.mean().expand(6))
    torch.testing.assert_close(merged["table"], sum(tasks) / 3)


def test_iso_leaves_an_orthogonal_matrix_alone():
    q = 0.5 * orthonormal(6, 6, 1)
    torch.testing.assert_close(Iso(scale=1.0).merge(models(0.25 * q, 0.75 * q), view(6, 6))["w"], q)


def test_iso_cts_has_one_singular_value():
    tasks = [noise(10, 12, seed=seed) for seed in (1, 2)]
    merged = Iso(scale=1.0, variant="cts", common=0.6).merge(models(*tasks), view(10, 12))["w"]
    values = torch.linalg.svdvals(merged)
    torch.testing.assert_close(values, values.mean().expand(10))


def test_iso_cts_with_common_directions_only_is_iso_c():
    tasks = models(*(noise(10, 12, seed=seed) for seed in (1, 2)))
    common, plain = (
        Iso(scale=1.0, **config).merge(tasks, view(10, 12))["w"] for config in ({"variant": "cts", "common": 1.0}, {})
    )
    torch.testing.assert_close(common, plain)


def test_iso_cts_keeps_a_direction_that_only_one_task_has():
    """The common directions drown it; a task-specific one brings it back."""
    u, v = orthonormal(8, 8, 1), orthonormal(8, 8, 2)
    common = low_rank(u[:, :6], [9.0] * 6, v[:, :6])
    lone = low_rank(u[:, 6:7], [1.0], v[:, 6:7])
    merged = Iso(scale=1.0, variant="cts", common=0.75).merge(models(common + lone, common), view(8, 8))["w"]
    value = (6 * 18 + 1) / 7  # the mean of the seven singular values there are; the second task has none of its own
    torch.testing.assert_close(merged, low_rank(u[:, :7], [value] * 7, v[:, :7]))


@pytest.mark.parametrize("common", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_iso_cts_fits_any_number_of_tasks(common, count):
    tasks = models(*(noise(5, 4, seed=seed) for seed in range(count)))
    assert Iso(variant="cts", common=common).merge(tasks, view(5, 4))["w"].isfinite().all()


def test_iso_c_refuses_a_share_that_nothing_would_use():
    with pytest.raises(BadConfig, match="variant=cts"):
        Iso(common=0.5)
