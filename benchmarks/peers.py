"""Data attribution by this library and by others, on the same networks and data, against retraining.

    pip install -e .[bench]
    python benchmarks/peers.py [--setting A|C] [--methods NAME …] [--seeds 5]    what each training instance does
    python benchmarks/peers.py --groups [--seeds 3]                              what each group does

Prints a table in Markdown: the linear datamodeling score (LDS, mean ± standard deviation over seeds of the scored
networks), processor seconds of scoring in one thread (not of training), and peak memory of scoring in MiB (each method
runs in a process of its own). Results lie in benchmarks/results/peers.json; parts that are run again replace what is
there of them. Settings: ``peer_settings.py``; methods: ``peer_methods.py``, which calls ``peer_formulas.py`` and
``peer_libraries.py``; how they are measured: ``peer_scoring.py``; groups: ``peer_groups.py``.

A ridge or damping marked "best on truth" was chosen from a grid by the LDS of the first network, which favors the method.
The defaults of this library were found on settings of this kind, these among them, and are the same for all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results" / "peers.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=("A", "C"), help="by default both")
    parser.add_argument("--methods", nargs="*", help="names, or beginnings of names that are none; by default all")
    parser.add_argument("--seeds", type=int, help="scored networks (default 5), or repetitions of --groups (default 3)")
    parser.add_argument("--groups", action="store_true")
    parser.add_argument("--counts", type=int, nargs="*", default=[10, 30, 100], help="numbers of groups")
    parser.add_argument("--truth-seeds", type=int, default=1, help="retrainings of each half of the groups")
    parser.add_argument("--timeout", type=float, default=900, help="seconds that a method may take in a setting")
    parser.add_argument("--networks", type=Path, default=Path(tempfile.gettempdir()) / "whence-peers",
                        help="a folder where trained networks are kept for the next time")  # fmt: skip
    parser.add_argument("--work", nargs=2, metavar=("JOB", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(json.loads(arguments.work[0]), Path(arguments.work[1]))
        return
    arguments.networks.mkdir(parents=True, exist_ok=True)
    if arguments.groups:
        seeds = 3 if arguments.seeds is None else arguments.seeds
        for count in arguments.counts:
            job = {"kind": "groups", "count": count, "seeds": seeds, "truth_seeds": arguments.truth_seeds,
                   "networks": str(arguments.networks)}  # fmt: skip
            keep(["groups", str(count)], in_process(job, None))
    else:
        compare(arguments)
    print(tables(json.loads(RESULTS.read_text())))


def compare(arguments: argparse.Namespace) -> None:
    """Run each method on each setting, and keep what it gave."""
    seeds = 5 if arguments.seeds is None else arguments.seeds
    listed = in_process({"kind": "names"}, None)
    if "failed" in listed:
        raise SystemExit(listed["failed"])
    names = listed["names"]
    asked = arguments.methods or [""]
    chosen = [name for name in names if any(name == one if one in names else name.startswith(one) for one in asked)]
    for setting in [arguments.setting] if arguments.setting else ["A", "C"]:
        job = {"setting": setting, "seeds": seeds, "networks": str(arguments.networks)}
        made = in_process({"kind": "train", "methods": chosen, **job}, None)
        if "failed" in made:
            raise SystemExit(made["failed"])
        for name in chosen:
            found = in_process({"kind": "score", "method": name, **job}, arguments.timeout)
            for row in found.pop("rows", [{"name": name, **found}]):
                keep(["instances", setting, row.pop("name")], row)
                print(setting, name, json.dumps(row), flush=True)


def in_process(job: dict[str, Any], timeout: float | None) -> dict[str, Any]:
    """Do a job in a process of its own. This one never imports torch, so that its size is not taken for theirs."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [sys.executable, "-W", "ignore", __file__, "--work", json.dumps(job), str(out)]
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        try:
            done = subprocess.run(
                command, timeout=timeout, env=environment, capture_output=True, text=True, check=False
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {timeout:g} seconds"}
        if done.returncode or not out.exists():
            said = [line for line in done.stderr.splitlines() if line.strip()]
            return {"failed": said[-1][:300] if said else f"ended with {done.returncode}"}
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def work(job: dict[str, Any], out: Path) -> None:
    """What a process of its own does."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if job["kind"] == "groups":
        from peer_groups import groups

        found = groups(job["count"], job["seeds"], job["truth_seeds"], Path(job["networks"]))
    else:
        from peer_methods import methods
        from peer_scoring import networks_for, score

        if job["kind"] == "names":
            found = {"names": list(methods())}
        elif job["kind"] == "train":
            networks_for(job["setting"], job["methods"], job["seeds"], Path(job["networks"]))
            found = {}
        else:
            found = {"rows": score(job["setting"], job["method"], job["seeds"], Path(job["networks"]))}
    out.write_text(json.dumps(found))


def keep(place: list[str], found: dict[str, Any]) -> None:
    """Put results into the file, beside those that are there."""
    RESULTS.parent.mkdir(exist_ok=True)
    whole = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    part = whole
    for key in place[:-1]:
        part = part.setdefault(key, {})
    part[place[-1]] = {**found, "when": time.strftime("%Y-%m-%d")}
    beside = RESULTS.with_suffix(".tmp")
    beside.write_text(json.dumps(whole, indent=1) + "\n")
    beside.replace(RESULTS)


def tables(whole: dict[str, Any]) -> str:
    """All results as Markdown."""
    lines = []
    for setting, rows in whole.get("instances", {}).items():
        lines += [
            f"\n**Setting {setting}**\n",
            "| method | models | LDS | repeats | seconds | MiB |",
            "| --- | --: | --: | --: | --: | --: |",
        ]
        good = sorted((row for row in rows.items() if "lds" in row[1]), key=lambda row: -mean(row[1]["lds"]))
        for name, row in good:
            cells = [
                name,
                row["models"],
                spread(row["lds"]),
                len(row["lds"]),
                f"{mean(row['seconds']):.1f}",
                f"{'' if row.get('peak_exact') else '≥ '}{row['peak_mib']:.0f}",
            ]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        lines += [f"| {name} | | failed: {row['failed']} | | | |" for name, row in rows.items() if "failed" in row]
    if "groups" in whole:
        lines += ["\n**Groups**\n", "| groups | method | LDS per target | LDS of the mean loss | corrupted groups, AUC | seeds |",
                  "| --: | --- | --: | --: | --: | --: |"]  # fmt: skip
    for count, part in sorted(whole.get("groups", {}).items(), key=lambda item: int(item[0])):
        for name, row in part.get("methods", {"all": part}).items():
            if "failed" in row:
                lines.append(f"| {count} | {name} | failed: {row['failed']} | | | |")
                continue
            numbers = [spread(row[key]) for key in ("lds", "lds_of_mean", "auc")]
            lines.append(f"| {count} | {name} | {' | '.join(numbers)} | {len(row['lds'])} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Mean ± standard deviation."""
    return f"{mean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else f"{mean(values):.3f}"


if __name__ == "__main__":
    main()
