"""Coverage-guided fuzzing of everything that reads what others wrote (`make fuzz`).

One process per parser (see `tests/support/parsers.py`), with libFuzzer's limits on time and memory for each input. The
corpus grows in `.fuzz/` from run to run; what breaks a parser lies in `.fuzz/<parser>/finds/`. Prints executions and
finds; exits with 1 if there are any.

    make fuzz ARGS='--seconds 1800 --only golden --only anatomy'
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

WORK = ROOT / ".fuzz"
LONGEST_S = 10
LARGEST_MB = 2048
LONGEST_INPUT = 64 << 10
_DONE = re.compile(r"Done (\d+) (?:runs|in)|stat::number_of_executed_units: (\d+)")
_PROGRESS = re.compile(r"#(\d+)\s.*cov: (\d+) ft: (\d+) corp: (\d+)")


def fuzz_one(name: str, arguments: list[str]) -> None:
    """In the fuzzing environment: feed one parser until libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["model_sidecar", "model_sidecar_client", "tomllib"]):
        from support.parsers import PARSERS

    parser = PARSERS[name]

    def feed(content: bytes) -> None:
        parser(content)

    atheris.Setup([sys.argv[0], *arguments], feed)
    atheris.Fuzz()


def run_one(name: str, python: str, seconds: int) -> tuple[int, int, int, list[Path], str]:
    """Fuzz one parser in a process of its own: executions, coverage, corpus, what broke it, and its last words."""
    here = WORK / name
    for folder in ("corpus", "finds"):
        (here / folder).mkdir(parents=True, exist_ok=True)
    before = set((here / "finds").iterdir())
    done = subprocess.run(
        [
            *(python, __file__, "--inside", name, f"-max_total_time={seconds}", f"-timeout={LONGEST_S}"),
            *(f"-rss_limit_mb={LARGEST_MB}", f"-max_len={LONGEST_INPUT}", f"-dict={WORK / 'tokens'}"),
            *(f"-artifact_prefix={here / 'finds'}/", "-print_final_stats=1"),
            *(str(here / "corpus"), str(WORK / name / "seeds")),
        ],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
    )
    told = done.stderr + done.stdout
    progress = _PROGRESS.findall(told)
    executions = max((int(count) for match in _DONE.findall(told) for count in match if count), default=0)
    coverage, corpus = (int(progress[-1][1]), int(progress[-1][3])) if progress else (0, 0)
    executions = max(executions, int(progress[-1][0]) if progress else 0)
    finds = sorted(set((here / "finds").iterdir()) - before)
    failed = bool(finds) or done.returncode != 0
    return executions, coverage, corpus, finds, told[-3000:] if failed else ""


def main() -> None:
    """Fuzz, and print the table."""
    from support.seeds import seeds, write_seeds

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--python", default=sys.executable, help="of the environment that has atheris")
    parser.add_argument("--seconds", type=int, default=180, help="for each parser")
    parser.add_argument("--jobs", type=int, default=2, help="parsers at once")
    parser.add_argument("--only", action="append", choices=sorted(seeds()), help="may be given again")
    options = parser.parse_args()
    write_seeds(WORK)
    names = options.only or sorted(seeds())
    print(
        f"{'parser':<26}{'executions':>12}{'per second':>12}{'branches':>10}{'corpus':>8}{'finds':>7}",
        flush=True,
    )
    total, broken = 0, []
    with ThreadPoolExecutor(options.jobs) as pool:
        results = pool.map(lambda name: run_one(name, options.python, options.seconds), names)
        for name, (executions, coverage, corpus, finds, words) in zip(names, results, strict=True):
            total += executions
            rate = executions // options.seconds
            print(
                f"{name:<26}{executions:>12,}{rate:>12,}{coverage:>10}{corpus:>8}{len(finds):>7}", flush=True
            )
            if words:
                broken.append((name, finds, words))
    print(f"{'all':<26}{total:>12,}")
    for name, finds, words in broken:
        print(f"\n--- {name}: {', '.join(map(str, finds)) or 'it failed'}\n{words}")
    sys.exit(bool(broken))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        fuzz_one(sys.argv[2], sys.argv[3:])
    else:
        main()
