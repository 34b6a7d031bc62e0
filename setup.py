"""Lists the packages: four folders of the checkout are installed below ``mergearena``."""

from setuptools import find_packages, setup

FOLDERS = ("attacks", "bench", "defenses", "leaderboard")
include = [pattern for folder in FOLDERS for pattern in (folder, f"{folder}.*")]
exclude = [f"leaderboard.{data}*" for data in ("plots", "records", "submissions")]

setup(packages=["mergearena", *(f"mergearena.{name}" for name in find_packages(include=include, exclude=exclude))])
