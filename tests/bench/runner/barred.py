"""What the kernel is to refuse a player, by name: each is one way out, or one trace that another play could read."""

import ctypes
import fcntl
import os
import resource
import socket
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def call(x86, aarch64, *arguments):
    whole = (a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments)
    return checked(LIBC.syscall(ctypes.c_long(x86 if X86 else aarch64), *whole))


def locks_a_file(given):
    with open("locked", "w") as file:
        return fcntl.flock(file, fcntl.LOCK_EX)


def locks_a_range(given):
    with open("locked", "w") as file:
        return fcntl.lockf(file, fcntl.LOCK_EX)


def sets_flags(given):
    with open("flags", "w") as file:
        fcntl.ioctl(file, 0x40086602, b"\x10\0\0\0\0\0\0\0")


BARRED = {
    "reads_the_packs_of_git": lambda given: sorted(os.listdir(Path(given["root"]) / ".git")),
    "reads_a_model": lambda given: Path(given["root"], "bench/suites/zoo/mnist.safetensors").read_bytes()[:9],
    "reads_a_copy_of_a_model": lambda given: Path(given["elsewhere"], "mnist.safetensors").read_bytes(),
    "reads_a_key": lambda given: Path(given["elsewhere"], "runs/submit/held.key").read_text(),
    "reads_a_record": lambda given: Path(given["root"], "leaderboard/leaderboard.json").read_text()[:9],
    "reads_the_tests": lambda given: Path(given["root"], "tests/bench/submit/submissions.py").read_text(),
    "reads_the_checkout": lambda given: Path(given["root"], "pyproject.toml").read_text(),
    "reads_passwords": lambda given: Path("/etc/shadow").read_text(),
    "lists_the_root": lambda given: os.listdir("/"),
    "lists_what_plays_leave": lambda given: os.listdir(given["elsewhere"]),
    "reads_digits": lambda given: Path(given["packages"], "sklearn/datasets/data/digits.csv.gz").read_bytes()[:9],
    "reads_sockets": lambda given: Path("/proc/self/net/unix").read_text(),
    "reads_sockets_of_its_thread": lambda given: Path(f"/proc/self/task/{os.getpid()}/net/unix").read_text(),
    "reads_its_parents_status": lambda given: Path(f"/proc/{os.getppid()}/status").read_text(),
    "opens_zeros": lambda given: os.open("/dev/zero", os.O_RDWR),
    "runs_a_program": lambda given: os.execv("/bin/true", ["true"]),
    "shares_memory_by_a_key": lambda given: checked(LIBC.shmget(0x4D41, 4096, 0o1600)),
    "queues_messages": lambda given: checked(LIBC.msgget(0x4D41, 0o1600)),
    "makes_semaphores": lambda given: checked(LIBC.semget(0x4D41, 1, 0o1600)),
    "opens_a_posix_queue": lambda given: call(240, 180, b"mergearena\0", os.O_CREAT | os.O_RDWR, 0o600, 0),
    "keeps_a_key": lambda given: call(248, 217, b"user\0", b"mergearena\0", b"x\0", 1, -4),
    "reads_keyrings": lambda given: call(250, 219, 0, -4, 0),
    "makes_a_memory_file": lambda given: os.memfd_create("x"),
    "watches_files": lambda given: checked(LIBC.inotify_init1(0)),
    "opens_a_socket": lambda given: socket.socket(socket.AF_UNIX),
    "opens_a_pair_of_sockets": lambda given: socket.socketpair(),
    "makes_it_set_user_id": lambda given: os.chmod("result", 0o4755),
    "makes_it_set_user_id_at_birth": lambda given: os.open("born", os.O_CREAT | os.O_WRONLY, 0o4755),
    "changes_a_mode": lambda given: os.chmod(Path(given["elsewhere"], "mnist.safetensors"), 0),
    "changes_an_owner": lambda given: os.chown(Path(given["elsewhere"], "mnist.safetensors"), 1, 1),
    "changes_times": lambda given: os.utime(Path(given["elsewhere"], "mnist.safetensors"), (1, 1)),
    "sets_an_attribute": lambda given: os.setxattr(Path(given["elsewhere"], "mnist.safetensors"), "user.seen", b"1"),
    "removes_an_attribute": lambda given: os.removexattr(Path(given["elsewhere"], "mnist.safetensors"), "user.seen"),
    "truncates_by_reading": lambda given: os.open(given["input"], os.O_RDONLY | os.O_TRUNC),
    "makes_a_pipe_in_the_folder": lambda given: os.mkfifo("pipe"),
    "links": lambda given: os.link(given["input"], "linked"),
    "links_softly": lambda given: os.symlink(given["input"], "linked"),
    "forks": lambda given: os.fork(),
    "clones_into_namespaces": lambda given: checked(LIBC.unshare(0x08000000)),
    "traces": lambda given: checked(LIBC.ptrace(16, os.getppid(), 0, 0)),
    "reads_anothers_memory": lambda given: call(310, 270, os.getppid(), 0, 0, 0, 0, 0),
    "opens_a_process": lambda given: os.pidfd_open(os.getpid()),
    "signals_its_parent": lambda given: os.kill(os.getppid(), 0),
    "signals_its_group": lambda given: os.killpg(0, 0),
    "moves_its_parent_to_a_core": lambda given: os.sched_setaffinity(os.getppid(), {0}),
    "slows_its_parent": lambda given: os.setpriority(os.PRIO_PROCESS, os.getppid(), 19),
    "limits_its_parent": lambda given: resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0)),
    "outlives_its_parent": lambda given: checked(LIBC.prctl(1, 0, 0, 0, 0)),
    "leaves_its_group": lambda given: os.setpgid(0, 0),
    "becomes_root": lambda given: os.setuid(0),
    "becomes_nobody": lambda given: os.setresuid(65534, 65534, 65534),
    "changes_its_personality": lambda given: call(135, 92, 0x0040000),
    "opens_a_ring": lambda given: call(425, 425, 1, 0),
    "counts_events": lambda given: call(298, 241, 0, 0, -1, -1, 0),
    "handles_faults": lambda given: call(323, 282, 1),
    "loads_a_program": lambda given: call(321, 280, 0, 0, 0),
    "mounts": lambda given: checked(LIBC.mount(b"none", b".", b"tmpfs", 0, None)),
    "locks_a_file": locks_a_file,
    "locks_a_range": locks_a_range,
    "sets_flags": sets_flags,
}
"""What the kernel is to refuse."""
