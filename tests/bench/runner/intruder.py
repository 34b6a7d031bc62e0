"""What a player might try, each as a function of its own that is to fail; run in a confined process."""

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mergearena.bench import suites
from mergearena.bench.games.base import Facts, Job, Played
from mergearena.bench.records.cost import Cost
from mergearena.bench.submit import toys

LIBC = ctypes.CDLL(None, use_errno=True)
BARRED = []
X86 = os.uname().machine == "x86_64"


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
        found = {}
        for name in self.names:
            try:
                found[name] = f"got {globals()[name](self.given)!r}"[:300]
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what came of it
                number = errno.errorcode.get(getattr(error, "errno", None), "")
                found[name] = f"{type(error).__name__} {number}".strip()
        return Played({"done": torch.ones(1)}, Cost(), Findings(found=found))


def barred(function):
    """Mark a function as one that the kernel is to refuse."""
    BARRED.append(function.__name__)
    return function


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def call(x86, aarch64, *arguments):
    whole = (a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments)
    return checked(LIBC.syscall(ctypes.c_long(x86 if X86 else aarch64), *whole))


# Files of others.


@barred
def reads_the_packs_of_git(given):
    return sorted(os.listdir(Path(given["root"]) / ".git"))


@barred
def reads_a_model(given):
    return Path(given["root"], "bench/suites/zoo/mnist.safetensors").read_bytes()[:9]


@barred
def reads_a_copy_of_a_model(given):
    return Path(given["elsewhere"], "mnist.safetensors").read_bytes()


@barred
def reads_a_key(given):
    return Path(given["elsewhere"], "runs/submit/held.key").read_text()


@barred
def reads_a_record(given):
    return Path(given["root"], "leaderboard/leaderboard.json").read_text()[:9]


@barred
def reads_the_tests(given):
    return Path(given["root"], "tests/bench/submit/submissions.py").read_text()


@barred
def reads_the_checkout(given):
    return Path(given["root"], "pyproject.toml").read_text()


@barred
def reads_passwords(given):
    return Path("/etc/shadow").read_text()


@barred
def lists_the_root(given):
    return os.listdir("/")


@barred
def lists_what_plays_leave(given):
    return os.listdir(given["elsewhere"])


@barred
def reads_digits(given):
    return Path(given["packages"], "sklearn/datasets/data/digits.csv.gz").read_bytes()[:9]


@barred
def reads_sockets(given):
    return Path("/proc/self/net/unix").read_text()


@barred
def reads_sockets_of_its_thread(given):
    return Path(f"/proc/self/task/{os.getpid()}/net/unix").read_text()


@barred
def reads_its_parents_status(given):
    return Path(f"/proc/{os.getppid()}/status").read_text()


@barred
def opens_zeros(given):
    return os.open("/dev/zero", os.O_RDWR)


@barred
def runs_a_program(given):
    os.execv("/bin/true", ["true"])


# What outlives a process, or is seen by others.


@barred
def shares_memory_by_a_key(given):
    return checked(LIBC.shmget(0x4D41, 4096, 0o1600))


@barred
def queues_messages(given):
    return checked(LIBC.msgget(0x4D41, 0o1600))


@barred
def makes_semaphores(given):
    return checked(LIBC.semget(0x4D41, 1, 0o1600))


@barred
def opens_a_posix_queue(given):
    return call(240, 180, b"mergearena\0", os.O_CREAT | os.O_RDWR, 0o600, 0)


@barred
def keeps_a_key(given):
    return call(248, 217, b"user\0", b"mergearena\0", b"x\0", 1, -4)


@barred
def reads_keyrings(given):
    return call(250, 219, 0, -4, 0)


@barred
def makes_a_memory_file(given):
    return os.memfd_create("x")


@barred
def locks_a_file(given):
    with open("locked", "w") as file:
        return fcntl.flock(file, fcntl.LOCK_EX)


@barred
def locks_a_range(given):
    with open("locked", "w") as file:
        return fcntl.lockf(file, fcntl.LOCK_EX)


@barred
def watches_files(given):
    return checked(LIBC.inotify_init1(0))


@barred
def opens_a_socket(given):
    return socket.socket(socket.AF_UNIX)


@barred
def opens_a_pair_of_sockets(given):
    return socket.socketpair()


# Files' modes, owners, times, attributes, kinds.


@barred
def makes_it_set_user_id(given):
    os.chmod("result", 0o4755)


@barred
def makes_it_set_user_id_at_birth(given):
    return os.open("born", os.O_CREAT | os.O_WRONLY, 0o4755)


@barred
def changes_a_mode(given):
    os.chmod(Path(given["elsewhere"], "mnist.safetensors"), 0)


@barred
def changes_an_owner(given):
    os.chown(Path(given["elsewhere"], "mnist.safetensors"), 1, 1)


@barred
def changes_times(given):
    os.utime(Path(given["elsewhere"], "mnist.safetensors"), (1, 1))


@barred
def sets_an_attribute(given):
    os.setxattr(Path(given["elsewhere"], "mnist.safetensors"), "user.seen", b"1")


@barred
def removes_an_attribute(given):
    os.removexattr(Path(given["elsewhere"], "mnist.safetensors"), "user.seen")


@barred
def sets_flags(given):
    with open("flags", "w") as file:
        fcntl.ioctl(file, 0x40086602, b"\x10\0\0\0\0\0\0\0")


@barred
def truncates_by_reading(given):
    return os.open(given["input"], os.O_RDONLY | os.O_TRUNC)


@barred
def makes_a_pipe_in_the_folder(given):
    os.mkfifo("pipe")


@barred
def links(given):
    os.link(given["input"], "linked")


@barred
def links_softly(given):
    os.symlink(given["input"], "linked")


# Other processes, and its own bounds.


@barred
def forks(given):
    return os.fork()


@barred
def clones_into_namespaces(given):
    return checked(LIBC.unshare(0x08000000))


@barred
def traces(given):
    return checked(LIBC.ptrace(16, os.getppid(), 0, 0))


@barred
def reads_anothers_memory(given):
    return call(310, 270, os.getppid(), 0, 0, 0, 0, 0)


@barred
def opens_a_process(given):
    return os.pidfd_open(os.getpid())


@barred
def signals_its_parent(given):
    os.kill(os.getppid(), 0)


@barred
def signals_its_group(given):
    os.killpg(0, 0)


@barred
def moves_its_parent_to_a_core(given):
    os.sched_setaffinity(os.getppid(), {0})


@barred
def slows_its_parent(given):
    os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)


@barred
def limits_its_parent(given):
    resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0))


@barred
def outlives_its_parent(given):
    return checked(LIBC.prctl(1, 0, 0, 0, 0))


@barred
def leaves_its_group(given):
    os.setpgid(0, 0)


@barred
def becomes_root(given):
    os.setuid(0)


@barred
def becomes_nobody(given):
    os.setresuid(65534, 65534, 65534)


@barred
def changes_its_personality(given):
    return call(135, 92, 0x0040000)


@barred
def opens_a_ring(given):
    return call(425, 425, 1, 0)


@barred
def counts_events(given):
    return call(298, 241, 0, 0, -1, -1, 0)


@barred
def handles_faults(given):
    return call(323, 282, 1)


@barred
def loads_a_program(given):
    return call(321, 280, 0, 0, 0)


@barred
def mounts(given):
    return checked(LIBC.mount(b"none", b".", b"tmpfs", 0, None))


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
    checked(LIBC.prctl(2, ctypes.byref(value), 0, 0, 0))
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
