"""``mergearena doctor``: plant known faults in the real machinery, and see that its own safeguards catch each.

A fault is planted in a player, a play, a record or a file, on a miniature suite, in a temporary folder. What catches it
is a gate, a flag, a rule of the board or a check that users run as well; nothing here judges anything by itself.
Beside every fault stands something sound, about which the same safeguard must
keep silent: an alarm that always rings would catch everything.
"""
