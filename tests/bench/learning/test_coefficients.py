"""Learned merge coefficients: one per model and tensor, whatever a tensor's shape."""

import pytest
import torch

from mergearena.bench.learning.coefficients import Blend

SHAPES = {"scalar": (), "one": (1,), "vector": (5,), "matrix": (3, 4), "convolution": (2, 3, 2, 2), "five": (2,) * 5}


@pytest.mark.parametrize("per_tensor", [True, False])
def test_a_blend_is_the_base_plus_weighted_task_vectors_of_any_shape(per_tensor):
    g = torch.Generator().manual_seed(0)
    base, *models = ({key: torch.randn(shape, generator=g) for key, shape in SHAPES.items()} for _ in range(3))
    blend = Blend(models, base)
    lambda_tl = torch.rand(2, len(SHAPES) if per_tensor else 1, generator=g, requires_grad=True)
    masks = {key: torch.rand(shape, generator=g) for key, shape in SHAPES.items()}
    merged = blend.weights(lambda_tl, masks)
    for i, key in enumerate(SHAPES):
        column = lambda_tl[:, i if per_tensor else 0]
        total = sum(c * (model[key] - base[key]) for c, model in zip(column, models, strict=True))
        torch.testing.assert_close(merged[key], base[key] + masks[key] * total)
    torch.stack([value.sum() for value in merged.values()]).sum().backward()
    assert lambda_tl.grad is not None
    assert lambda_tl.grad.all()
