"""Hostile and broken files: every format that is read, mutated at random, each file read in a process of its own.

    python benchmarks/fuzz.py [--cases 20000] [--seed 0] [--only tiff] [--keep FOLDER]

Each process may take 10 s of processor and 60 s in all, and 2 GiB of memory beyond what the program takes when it
starts. A file must be read, or refused by an error of one line. Anything else is a failure: another exception, an error
of several lines, a limit, a crash, a program started, a connection, a file written elsewhere, a pickle. Three of four
mutations begin in headers, directories and metadata. Ends with exit code 1 where there is a failure; `--keep` saves
those files.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np

from biounet.errors import BiounetError
from fuzzing.mutations import mutated
from fuzzing.readers import READERS
from fuzzing.seeds import Seed, all_seeds

CPU_S, WALL_S = 10, 60
MEMORY = 2 << 30
READ, REFUSED, FAILED = 0, 1, 2
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_FORBIDDEN = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.", "pickle.", "ctypes.dlopen",
              "os.remove", "os.rename", "os.rmdir", "shutil.")  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """Of one file: "read", "refused" or what went wrong; seconds of processor and bytes of memory at the peak."""

    verdict: str
    seconds: float
    memory: int


def run_case(seed: Seed, data: bytes, folder: Path) -> Outcome:
    """Read one mutated file in a process of its own, within limits."""
    for name, content in {**seed.others, seed.path: data}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(seed, folder, writing)
    os.close(writing)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.alarm(WALL_S)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read(20_000).decode("utf-8", "replace")
    _, status, usage = os.wait4(child, 0)
    signal.alarm(0)
    seconds, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    if os.WIFSIGNALED(status):
        return Outcome(f"killed by {signal.Signals(os.WTERMSIG(status)).name} {said}", seconds, memory)
    code = os.waitstatus_to_exitcode(status)
    verdict = {READ: "read", REFUSED: "refused"}.get(code, said or f"exit code {code}")
    return Outcome(verdict, seconds, memory)


def _child(seed: Seed, folder: Path, pipe: int) -> None:
    """Never returns."""
    code, said = FAILED, ""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
        limit = _address_space() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        sys.addaudithook(_watch(folder))
        READERS[seed.reader](folder / seed.path)
        code = READ
    except BiounetError as error:
        code = REFUSED if len(str(error).splitlines()) == 1 else FAILED
        said = f"an error of several lines: {error!r}" if code == FAILED else ""
    except BaseException:
        said = traceback.format_exc()
    os.write(pipe, said.encode("utf-8", "replace")[-20_000:])
    os._exit(code)


class Forbidden(BaseException):
    """A file made the program do what reading never does."""


def _watch(folder: Path):  # type: ignore[no-untyped-def]
    home = str(folder)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "socket.__new__" and arguments[1] == socket.AF_UNIX:
            return  # the pair by which asyncio, and zarr in it, wakes its loop; connecting is another event
        if event.startswith(_FORBIDDEN):
            raise Forbidden(f"{event} {arguments!r}"[:300])
        if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            name = str(arguments[0])
            if not name.startswith(home) and name != os.devnull:
                raise Forbidden(f"{name} opened for writing")

    return hook


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def main() -> int:
    """Run the cases and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="seeds whose name holds this")
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not os.environ.items() >= _ONE_THREAD.items():  # threads do not survive a fork
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **_ONE_THREAD})
    warnings.simplefilter("ignore")
    seeds = [seed for seed in all_seeds() if options.only in seed.name]
    imagecodecs.png_decode(imagecodecs.png_encode(np.zeros((2, 2), np.uint8)))  # loaded once, before the forks
    verdicts: Counter[str] = Counter()
    failures: list[dict[str, object]] = []
    structural = slowest = largest = 0.0
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        _warm(seeds, Path(temporary))
        for case in range(options.cases):
            seed = seeds[case % len(seeds)]
            data, in_structure = mutated(seed, random.Random(f"{options.seed} {case} {seed.name}"))
            folder = Path(temporary) / f"{case % len(seeds)}"
            outcome = run_case(seed, data, folder)
            structural += in_structure
            slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.memory)
            verdicts[outcome.verdict if outcome.verdict in ("read", "refused") else "failed"] += 1
            if outcome.verdict not in ("read", "refused"):
                failures.append({"case": case, "seed": seed.name, "verdict": outcome.verdict})
                if options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    (options.keep / f"{case}-{Path(seed.path).name}").write_bytes(data)
    summary = {
        "cases": options.cases,
        "seed": options.seed,
        "formats": len(seeds),
        "readers": sorted({seed.reader for seed in seeds}),
        **{name: verdicts[name] for name in ("read", "refused", "failed")},
        "structural": structural / max(1, options.cases),
        "slowest_s": round(slowest, 2),
        "largest_bytes": int(largest),
        "seconds": round(time.perf_counter() - start, 1),
        "failures": failures,
    }
    if options.json:
        print(json.dumps(summary))
    else:
        for failure in failures[:20]:
            print(f"case {failure['case']} ({failure['seed']}): {str(failure['verdict'])[-1500:]}")
        print(", ".join(f"{key} {value}" for key, value in summary.items() if key != "failures"))
    return 1 if failures else 0


def _warm(seeds: list[Seed], folder: Path) -> None:
    """Read every seed whole in this process: what is imported while reading is there before the forks.

    A seed that cannot be read is a fault of this script.
    """
    for index, seed in enumerate(seeds):
        data = seed.wrap(seed.data) if seed.wrap else seed.data
        place = folder / f"{index}"
        for name, content in {**seed.others, seed.path: data}.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        try:
            READERS[seed.reader](place / seed.path)
        except BiounetError as error:
            raise SystemExit(f"{seed.name}: the whole file is refused: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
