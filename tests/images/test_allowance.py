import os

import pytest

from biounet.images.allowance import allowed_memory

WHOLE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
NONE = 9223372036854771712  # what version 1 says where there is no limit


@pytest.fixture
def machine(tmp_path):
    """The memory of a process that belongs to groups, with files of limits."""

    def make(groups, limits):
        (tmp_path / "proc" / "self").mkdir(parents=True)
        (tmp_path / "proc" / "self" / "cgroup").write_text(groups)
        for name, limit in limits.items():
            file = tmp_path / "sys" / "fs" / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{limit}\n")
        return allowed_memory(tmp_path)

    return make


def test_without_groups_it_is_that_of_the_machine(tmp_path):
    assert allowed_memory(tmp_path) == WHOLE


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/\n", {"memory.max": 5 << 20}, 5 << 20),  # a container with a name space of its own
        ("0::/\n", {"memory.max": "max"}, WHOLE),
        ("0::/job/step\n", {"job/memory.max": 7 << 20, "job/step/memory.max": "max"}, 7 << 20),  # Slurm
        ("0::/job/step\n", {"job/memory.max": 7 << 20, "job/step/memory.max": 6 << 20}, 6 << 20),
        ("0::/other\n", {"job/memory.max": 7 << 20}, WHOLE),
        ("0::/docker/12:ab\n", {"docker/12:ab/memory.max": 3 << 20}, 3 << 20),
        (
            "5:cpu:/\n4:memory:/job/step\n0::/\n",
            {"memory/job/step/memory.limit_in_bytes": NONE, "memory/job/memory.limit_in_bytes": 8 << 20},
            8 << 20,
        ),
        ("4:cpu,memory:/docker/1\n", {"memory/memory.limit_in_bytes": 9 << 20}, 9 << 20),  # the path is the host's
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": NONE}, WHOLE),
        ("4:cpuset:/\n", {"memory/memory.limit_in_bytes": 1}, WHOLE),
        ("nothing\n", {"memory.max": 1}, WHOLE),
    ],
)
def test_the_least_limit_up_to_the_mount_holds(machine, groups, limits, expected):
    assert machine(groups, limits) == expected
