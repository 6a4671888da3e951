import runpy
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).resolve().parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda path: path.name)
def test_a_benchmark_finds_all_that_it_imports_and_prints_its_help(benchmark, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(benchmark.parent))  # as for a program; some import another
    monkeypatch.setattr("sys.argv", [str(benchmark), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(benchmark), run_name="__main__")
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out
