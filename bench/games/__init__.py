"""The games: each is a folder of its own, with its matches, plays, references and records.

The runner plays any; nothing outside a game's own folder and its folder of the board knows its rules.
"""
