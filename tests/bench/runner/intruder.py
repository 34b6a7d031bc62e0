"""What a player might try, each as a function of its own that is to fail; run in a confined process."""

import ctypes
import errno
import mmap
import os
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import barred
import torch

from mergearena.bench import suites
from mergearena.bench.games.base import Facts, Job, Played
from mergearena.bench.records.cost import Cost
from mergearena.bench.submit import toys


class Findings(Facts):
    """Name of a try -> what came of it."""

    found: dict[str, str]


@dataclass(frozen=True)
class Intrusion(Job):
    """Runs functions of this module in a player's process, and tells what each returned or raised."""

    facts = Findings
    names: tuple[str, ...]
    given: dict[str, str] = field(default_factory=dict)
    id = title = "intrusion"

    def sent(self):
        return self

    def suite(self, files):
        return suites.get(toys.suite_name("open_clip"))

    def run(self, suite, files, progress):
        tries, found = {**globals(), **barred.BARRED}, {}
        for name in self.names:
            try:
                found[name] = f"got {tries[name](self.given)!r}"[:300]
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what came of it
                number = errno.errorcode.get(getattr(error, "errno", None), "")
                found[name] = f"{type(error).__name__} {number}".strip()
        return Played({"done": torch.ones(1)}, Cost(), Findings(found=found))


# What must be true of its process.


def variables(given):
    names = set(os.environ) - {"LANG", "TZ", "PATH", "HOME", "USER", "TMPDIR"}
    return sorted(n for n in names if not n.startswith(("LC_", "OMP_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_", "TORCH_")))


def variables_in_memory(given):
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return {
        ctypes.string_at(start, end - start).strip(b"\0")
        for start, end in (map(int, fields[i : i + 2]) for i in (45, 47))
    }


def arguments(given):
    return sys.argv + sys.orig_argv


def keys(given):
    import multiprocessing

    return {bytes(p.authkey).strip(b"\0") for p in (multiprocessing.current_process(),)}


def descriptors(given):
    """Where those lead that lead neither to the working folder nor to nothing; each is written to."""
    places = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            place = os.readlink(f"/proc/self/fd/{name}")
            if not place.startswith((os.getcwd(), os.devnull)):
                places.add(place)
                os.write(int(name), b"\0")
            elif place == os.devnull:
                os.write(int(name), b"REGISTER:/x:semaphore\n")
        except OSError:
            continue
    return sorted(place for place in places if place != f"/proc/{os.getpid()}/fd")


def parent_death_signal(given):
    value = ctypes.c_int()
    barred.checked(barred.LIBC.prctl(2, ctypes.byref(value), 0, 0, 0))
    return signal.Signals(value.value).name


def privileges(given):
    status = Path("/proc/self/status").read_text().splitlines()
    return sorted({line.split()[1].lstrip("0") for line in status if line.startswith(("CapPrm", "CapEff", "CapInh"))})


# What must still work.


def reads_its_input(given):
    return Path(given["input"]).read_text()


def computes_in_threads(given):
    torch.set_num_threads(2)
    return torch.linalg.svdvals(torch.eye(300) @ torch.eye(300)).sum().item()


def imports_what_was_not(given):
    import sqlite3
    import wave

    import scipy.interpolate
    import sklearn.datasets

    return sorted(m.__name__ for m in (sqlite3, wave, scipy.interpolate, sklearn.datasets))


def imports_the_board(given):
    from mergearena.leaderboard.board import build

    return build.__name__


def writes_and_moves(given):
    import tempfile
    import zoneinfo

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tensors"
        torch.save({"a": torch.ones(2)}, path)
        Path("below").mkdir()
        path = path.rename(Path("below") / "moved")
        return torch.load(path)["a"].tolist(), zoneinfo.ZoneInfo("Asia/Tokyo").key, Path.home() == Path.cwd()


def writes_a_table(given):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1, 2]}), "t.parquet")
    return pq.read_table("t.parquet")["a"].to_pylist()


def knows_the_machine(given):
    return (os.cpu_count() or 0) > 0 and "cpu" in Path("/proc/cpuinfo").read_text()


def takes_shared_memory(given):
    shared = mmap.mmap(-1, 5 * 2**29)
    return shared.write(b"x" * 2**20)


def takes_memory(given):
    return len(bytearray(5 * 2**29))


def opens_three_hundred_files(given):
    opened = []
    try:
        while len(opened) < 300:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for number in opened:
            os.close(number)


def starts_a_hundred_threads(given):
    done = threading.Event()
    threading.stack_size(2**16)
    try:
        for _ in range(100):
            threading.Thread(target=done.wait, daemon=True).start()
    finally:
        done.set()


# What is ended from outside.


def makes_many_files(given):
    for i in range(10**6):
        Path(f"file-{i}").touch()


def makes_deep_folders(given):
    for _ in range(3000):
        os.mkdir("d")
        os.chdir("d")
    threading.Event().wait()


def fills_the_disk(given):
    for i in range(10**6):
        Path(f"file-{i}").write_bytes(bytes(2**25))
