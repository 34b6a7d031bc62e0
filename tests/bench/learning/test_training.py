"""The shared training loop: its steps, its draws, what it reports, and models evaluated at other parameters."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mergearena.bench.games.metering import metered
from mergearena.bench.learning.training import At, TrainingConfig, mean_over_tasks, train


def half_squared(model, batch):
    """A loss whose gradient is the parameters themselves."""
    return sum(p.square().sum() for p in model.parameters()) / 2


def parameters(state, view):
    return {name: state[name] for name, _ in view.model(state).named_parameters()}


def test_the_steps_are_adamw_along_a_cosine(defender):
    """With gradient theta and no decay: m, v and the rates lr (1 + cos(pi t / T)) / 2 by hand."""
    view = defender()
    start = view.suite.finetuned("a")
    config = TrainingConfig(steps=3, lr=1e-2)
    ended = train(start, {}, half_squared, view, config)
    for name, value in parameters(start, view).items():
        p, m, v = value.double(), 0.0, 0.0
        for t, share in enumerate((1.0, 0.75, 0.25)):
            m, v = 0.9 * m + 0.1 * p, 0.999 * v + 0.001 * p**2
            p = p - 1e-2 * share * (m / (1 - 0.9 ** (t + 1))) / ((v / (1 - 0.999 ** (t + 1))).sqrt() + 1e-8)
        torch.testing.assert_close(ended[name].double(), p, rtol=1e-4, atol=1e-6)


def test_clipping_shortens_the_gradient_of_all_parameters_together(defender):
    view, seen = defender(), []

    def spy(model, batch):
        seen.append(model)
        return 1e3 * half_squared(model, batch)

    for clip in (None, 0.5):
        train(view.base, {}, spy, view, TrainingConfig(steps=1), clip=clip)
    lengths = [torch.stack([p.grad.norm() for p in m.parameters()]).norm().item() for m in seen]
    assert lengths[0] > 100
    assert lengths[1] == pytest.approx(0.5, rel=1e-4)


def test_a_batch_of_every_task_is_drawn_with_the_views_generator(defender):
    view, seen = defender(seed=5), []

    def spy(model, batch):
        seen.append(batch)
        return half_squared(model, batch)

    data = {t: (torch.arange(n), torch.arange(n) + 100) for t, n in {"a": 20, "b": 7}.items()}
    train(view.base, data, spy, view, TrainingConfig(steps=4, batch_size=6))
    replay = torch.Generator().manual_seed(5)
    for batch in seen:
        for task, (inputs, targets) in data.items():
            rows = torch.randint(len(inputs), (6,), generator=replay)
            assert torch.equal(batch[task][0], inputs[rows])
            assert torch.equal(batch[task][1], targets[rows])
    assert len({tuple(b["a"][0].tolist()) for b in seen}) == 4


def test_no_global_randomness_and_the_start_stays(defender):
    view = defender()
    start = view.suite.finetuned("a")
    before = {k: v.clone() for k, v in start.items()}
    runs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        again = defender(seed=3)
        objective = mean_over_tasks(F.cross_entropy, again)
        runs.append(train(start, {"a": again.train()}, objective, again, TrainingConfig(steps=3, lr=1e-3)))
    assert all(torch.equal(runs[0][k], runs[1][k]) for k in before)
    assert any(not torch.equal(runs[0][k], before[k]) for k in before)
    assert all(torch.equal(start[k], before[k]) for k in before)
    assert not any(v.requires_grad for v in runs[0].values())


def test_every_step_is_reported(defender):
    told = []
    view = replace(defender(), progress=lambda done, total: told.append((done, total)))
    train(view.base, {}, half_squared, view, TrainingConfig(steps=3))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_mean_over_tasks(attacker):
    view = attacker()
    model = view.model(view.base)
    batch = dict(view.examples)
    each = [F.cross_entropy(view.logits(model, t, x), y) for t, (x, y) in batch.items()]
    torch.testing.assert_close(mean_over_tasks(F.cross_entropy, view)(model, batch), sum(each) / 2)


# evaluation at other parameters


def test_a_module_at_other_parameters_computes_what_they_compute(defender):
    view = defender()
    victim, inputs = view.suite.finetuned("a"), view.train()[0]
    model = view.model(view.base)
    at = At(model, parameters(victim, view))
    torch.testing.assert_close(view.logits(at, "a", inputs), view.suite.predict(victim, "a", inputs))
    torch.testing.assert_close(view.logits(model, "a", inputs), view.suite.predict(view.base, "a", inputs))


def test_gradients_flow_through_the_other_parameters(defender):
    """d/dp L(base + s (p - base)) is s times the gradient of L there."""
    view, s = defender(), 0.3
    inputs, labels = view.train()
    model = view.model(view.suite.finetuned("a"))
    point = {name: view.base[name] + s * (p - view.base[name]) for name, p in model.named_parameters()}
    F.cross_entropy(view.logits(At(model, point), "a", inputs), labels).backward()
    there = view.model({**view.base, **{name: p.detach() for name, p in point.items()}})
    F.cross_entropy(view.logits(there, "a", inputs), labels).backward()
    for p, q in zip(model.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(p.grad, s * q.grad, rtol=1e-3, atol=1e-6)


def test_work_at_other_parameters_is_metered(defender):
    view = defender()
    model, inputs = view.model(view.base), view.train()[0]
    counted = []
    doubled = {name: 2 * p for name, p in model.named_parameters()}
    for module in (model, At(model, doubled)):
        with metered() as cost:
            view.logits(module, "a", inputs).sum().backward()
        counted.append(cost.flops)
    assert counted[0] == counted[1] > 0


def test_optimizer_steps_are_metered(defender):
    view = defender()
    with metered() as cost:
        train(view.base, {}, half_squared, view, TrainingConfig(steps=5))
    assert cost.gradient_steps == 5
