"""Broken and hostile files are read or refused in one line: `benchmarks/fuzz.py` over every format, and its limits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "fuzz.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits by fork and setrlimit, as Linux has them")


def fuzz(cases, seed):
    command = [sys.executable, str(SCRIPT), "--cases", str(cases), "--seed", str(seed), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def check(result, cases):
    assert result["failures"] == []
    assert result["read"] + result["refused"] == cases
    assert result["refused"] > 0.3 * cases  # the mutations do damage
    assert result["read"] > 0.1 * cases
    assert result["structural"] >= 0.5
    assert 40 <= result["formats"] <= cases  # every seed is mutated
    assert {"image", "zarr", "outlines", "folder", "model"} <= set(result["readers"])
    assert result["slowest_s"] < 10
    assert result["largest_bytes"] < 2 << 30


def test_mutated_files_are_read_or_refused_in_one_line():
    check(fuzz(200, seed=1), 200)


@pytest.mark.slow
def test_many_mutated_files_are_read_or_refused_in_one_line():
    check(fuzz(2000, seed=2), 2000)


BAD = {
    "hang": "while True: pass",
    "memory": "kept = bytearray(3 << 30)",
    "traceback": "raise ValueError('damaged')",
    "two lines": "raise DataError('one\\ntwo')",
    "program": "os.system('true')",
    "pickle": "import pickle; pickle.loads(b'cos\\nsystem\\n.')",
    "socket": "import socket; socket.socket(socket.AF_INET)",
    "connection": "import socket; socket.socket(socket.AF_UNIX).connect('/tmp/nobody-listens')",
    "file": "open('/tmp/written-by-a-file', 'w')",
    "crash": "os.abort()",
    "fine": "pass",
    "refused": "raise DataError('one line')",
}


def test_the_script_sees_what_must_not_happen(tmp_path):
    """Readers that do what no reader may: each is caught."""
    code = [
        "import json, os, sys",
        "from pathlib import Path",
        f"sys.path.insert(0, {str(SCRIPT.parent)!r})",
        "import fuzz",
        "from biounet.errors import DataError",
        "fuzz.CPU_S = 1",
        "told = {}",
    ]
    for name, words in BAD.items():
        code += [
            f"def bad(path):\n    {words}",
            "fuzz.READERS['bad'] = bad",
            "seed = fuzz.Seed('bad', 'bad', 'a.tif', b'x', [(0, 1)])",
            f"told[{name!r}] = fuzz.run_case(seed, b'x', Path({str(tmp_path)!r})).verdict",
        ]
    code.append("print(json.dumps(told))")
    done = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["fine"], told["refused"]) == ("read", "refused")
    words = {
        "hang": "SIGXCPU", "memory": "MemoryError", "traceback": "ValueError: damaged", "two lines": "several lines",
        "program": "os.system", "pickle": "pickle.find_class", "file": "opened for writing", "crash": "SIGABRT",
        "socket": "socket.__new__", "connection": "socket.connect",
    }  # fmt: skip
    for name, expected in words.items():
        assert expected in told[name], name
    assert not Path("/tmp/written-by-a-file").exists()
