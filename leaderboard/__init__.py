"""The board: records -> leaderboard.json, a pure function; and everything that is made of it.

Each package uses those above it only::

    charts                 plots, of whatever has letters and numbers
    board                  records -> board: what all games' boards are made of and are asked for
    page                   board -> page and pictures
    protection, backdoor   the games' own sides; each is found through its game, and nothing here imports one
    archive                the committed records, submissions and claims

The one exception is :mod:`.archive.claims`, evidence of one game.
"""
