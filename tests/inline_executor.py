"""A second executor, as whoever needs one writes it: players run in threads of the run's own process, unconfined."""

from mergearena.bench.files import checkpoints
from mergearena.bench.runner.executors.result import Outcome, failure


class Inline:
    """Without limits, for players that one trusts."""

    open = 0
    """How many were made and not closed."""

    def __init__(self, setting):
        self.setting = setting
        self.aborted = False
        Inline.open += 1

    def run(self, job, files, out):
        try:
            played = job.run(job.suite(files), files, lambda done, total: self.setting.watcher(job, (done, total)))
        except Exception as error:  # noqa: BLE001 - a player may raise anything
            return failure("failed", f"{type(error).__name__}: {error}")
        checkpoints.save(played.tensors, out / "model.safetensors")
        return Outcome("ok", None, {"cost": played.cost, **played.facts.model_dump()}, out / "model.safetensors")

    def play(self, play, given, files, out):
        outcome = self.run(play, files, out)
        if outcome.result is None:
            return outcome
        judged = play.judge(outcome.result, given)
        return Outcome("ok", None, {**outcome.fields, **judged}, outcome.result)

    def abort(self):
        self.aborted = True

    def close(self):
        Inline.open -= 1
