"""What the fork server imports before anything slow: it ends with the run, and players and judges end with it.

Left to itself it would serve until the last of its children has ended, since each child could ask it for more.
"""

from mergearena.bench.runner.executors.lifeline import die_with_parent

die_with_parent()
