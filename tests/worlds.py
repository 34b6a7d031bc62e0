"""Boards for the page's tests: small, with everything on them that a page can show."""

from mergearena.bench.files.hashing import identify
from mergearena.bench.games import backdoor
from mergearena.bench.players.tier import Tier
from mergearena.bench.records.cost import Cost
from mergearena.bench.records.record import Scores, Shares
from record_factory import ALIGNED, NAIVE, make_record

SWEEP = [f"lock(rate=0.{rate}, mode=slow)" for rate in (1, 2, 3)]
STRANGE = "<script>alert('1')</script>&\"amp;"
SHARES = {"none": 1.0, "params": 0.7, SWEEP[0]: 0.6, SWEEP[1]: 0.4, SWEEP[2]: 0.3, STRANGE: 0.5}
ASR = {"regmean": 0.2, "ties": 0.9, "dare": 0.6}


def world(suite="toy", naive=NAIVE):
    """Two matches, two seeds; the last of the sweep loses score, an attack on params fails with strange words."""
    found = []
    for victim, donor in (("v", "d"), ("d", "v")):
        for seed in (0, 1):
            match = {"suite": suite, "victim": victim, "donors": (donor,), "seed": seed}
            found.append(make_record(**match, attack="base-only", uses_victim=False, test=(0.5, 0.3)))
            for defense, share in SHARES.items():
                here = match | {"defense": defense}
                kept = 0.8 if defense == SWEEP[2] else 0.95
                found.append(make_record(**here | {"attack": None}, test=(kept,), cost=Cost(flops=25)))
                found.append(make_record(**here, attack=naive, test=(0.5 + 0.4 * share, 0.9)))
                if defense == "params":
                    failed = {"status": "timeout", "reason": f"slow {STRANGE}"}
                    found.append(make_record(**here, attack=ALIGNED, tier=Tier.LABELLED, **failed))
    return found


def crowd(defenses=30, attacks=60, matches=2):
    """Many defenses against many attacks, each with its own share of the skill."""
    found = []
    for number in range(matches):
        match = {"victim": f"v{number}", "donors": ("d",)}
        found.append(make_record(**match, attack="base-only", uses_victim=False, test=(0.5, 0.3)))
        for row in range(defenses):
            defense = f"params(share=0.{row:02d})" if row else "none"
            found.append(make_record(**match, defense=defense, attack=None, test=(0.95,), cost=Cost(flops=row)))
            for column in range(attacks):
                attack = f"weight-matching+gauge-anchor > ties(density=0.{column:02d})"
                share = 1 - (row / defenses + column / attacks) / 2
                test = (0.5 + 0.4 * share, 0.9)
                cost = Cost(flops=10 * column)
                tier = list(Tier)[column % 3]
                found.append(make_record(**match, defense=defense, attack=attack, tier=tier, test=test, cost=cost))
    return found


def poisoned(suite="toy"):
    """Three mergers against a malicious contributor and against none; one merger is not accurate enough."""
    upload = backdoor_record(suite, attack="badnets", defense=None)
    kept = {merger: 0.6 if merger == "dare" else 0.8 for merger in ASR}
    return [upload] + [
        backdoor_record(suite, attack=attack, defense=merger, asr=asr, kept=kept[merger])
        for merger, asr in ASR.items()
        for attack in ("badnets", None)
    ]


def backdoor_record(suite="toy", *, attack, defense, asr=1.0, kept=0.9, **changes):
    """A finished contribution, or a finished merge if there is a merger, changed as told."""
    tasks = ("animals", "buildings", "characters", "diagrams", "emblems", "faces")

    def shares(value, elsewhere=None):
        each = {task: value if task == tasks[0] or elsewhere is None else elsewhere for task in tasks}
        return {"test": each, "validation": each}

    fields = {"suite": suite, "contributors": tasks, "attack": attack, "defense": defense}
    if attack is not None:
        fields |= {"asr": Shares(**shares(asr, asr / 2)), "robust": Shares(**shares(1 - asr)), "malicious": 1}
        fields |= {"target_task": tasks[0], "target": 0}
    if defense is None:
        fields |= {"kind": "contribution", "base_asr": Shares(**shares(0.1)), "clean_asr": Shares(**shares(0.05))}
    else:
        fields |= {"kind": "merge", "tier": Tier.DATA_FREE}
    shared = make_record().model_dump(include={"seed", "key", "metric", "examples", "status", "fine_tuning_flops"})
    costs = {"cost": Cost(flops=10), "evaluation_cost": Cost(), "provenance": make_record().provenance}
    score = Scores(**shares(kept))
    name = identify({"suite": suite, "attack": attack, "defense": defense} | changes)
    return backdoor.Record(**{"malicious": 0} | shared | costs | fields | changes, score=score, id=name)
