#!/usr/bin/env python3
"""Runs bench_io beside fio and bench_adam beside a streaming kernel, A B A B, and prints ratios.

  bench/compare.py --build build --path /mnt/nvme [--rounds 5] [--seconds 0.5] [--only io|adam] [--json FILE]

A ratio is our speed / the reference's speed within one round, so slow phases of a shared machine hit both. Printed:
median, min and max over the rounds. With few rounds a disk ratio says little: identical pairs differ by tens of
percent on a shared machine, so take 40 rounds or more before believing the second digit.

bench_io's rows are found by their names: `read` or `write`, and the arguments `block:<bytes>` and `depth:<n>`; its
counter bytes_per_second is compared. Rows of another form are listed and left out.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass, field


@dataclass
class Comparison:
    name: str
    reference: str
    ratios: list = field(default_factory=list)
    ours: list = field(default_factory=list)
    theirs: list = field(default_factory=list)
    unit: str = "GB/s"

    def add(self, ours, theirs):
        self.ours.append(ours)
        self.theirs.append(theirs)
        self.ratios.append(ours / theirs)


class Failure(Exception):
    pass


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise Failure(f"{command[0]} exited with {done.returncode}: {last}")
    return done.stdout


def benchmark_rows(program, arguments, seconds, filter_):
    command = [program, *arguments, f"--benchmark_filter={filter_}", f"--benchmark_min_time={seconds}",
               "--benchmark_format=json"]
    rows = json.loads(run(command))["benchmarks"]
    for row in rows:
        if row.get("error_occurred"):
            raise Failure(f"{os.path.basename(program)} {row['name']}: {row.get('error_message', 'failed')}")
    return rows


# --- Adam beside the streaming kernel: bench_adam alternates the two itself, pass by pass ---


def adam_round(options, found):
    program = os.path.join(options.build, "bench", "bench_adam")
    arguments = [f"--params={options.params}"] + ([f"--threads={options.threads}"] if options.threads else [])
    for row in benchmark_rows(program, arguments, options.seconds, "^ratio/"):
        name = "adamw/" + row["name"].split("/")[1]
        entry = found.setdefault(name, Comparison(name, "streaming kernel", unit="G param/s"))
        speed = row["params_per_s"] / 1e9
        entry.add(speed, speed / row["ratio"])


# --- Disk beside fio ---


@dataclass
class IoCase:
    name: str
    mode: str  # read or write
    block: int
    depth: int


def parse_io_case(name):
    mode = re.search(r"read|write", name)
    block = re.search(r"block:(\d+)", name)
    depth = re.search(r"depth:(\d+)", name)
    if not (mode and block and depth):
        return None
    return IoCase(name, mode.group(0), int(block.group(1)), int(depth.group(1)))


def io_arguments(options):
    return [f"--path={options.path}"]


def io_cases(options):
    program = os.path.join(options.build, "bench", "bench_io")
    listed = run([program, *io_arguments(options), "--benchmark_list_tests"]).split()
    cases = [(name, parse_io_case(name)) for name in listed]
    for name, case in cases:
        if case is None:
            print(f"left out: {name} (no read or write with block: and depth:)", file=sys.stderr)
    return [case for _, case in cases if case is not None]


def io_ours(options, case):
    program = os.path.join(options.build, "bench", "bench_io")
    rows = benchmark_rows(program, io_arguments(options), options.seconds, f"^{re.escape(case.name)}$")
    speeds = [row["bytes_per_second"] for row in rows if "bytes_per_second" in row]
    if not speeds:
        raise Failure(f"bench_io {case.name}: no row with bytes_per_second")
    return statistics.median(speeds)


def fio_command(options, case):
    command = ["fio", "--name=strata", f"--filename={os.path.join(options.path, 'compare.fio')}",
               f"--size={options.file_size}", f"--rw={case.mode}", f"--bs={case.block}", f"--iodepth={case.depth}",
               "--ioengine=io_uring", "--direct=1", "--scramble_buffers=0", "--time_based",
               f"--runtime={options.seconds}s", "--output-format=json", "--fallocate=none"]
    if not options.fio_plain:
        command += ["--fixedbufs=1", "--registerfiles=1"]
    return command


def io_theirs(options, case):
    result = json.loads(run(fio_command(options, case)))["jobs"][0]
    if result["error"] != 0:
        raise Failure(f"fio {case.name}: error {result['error']}")
    return result[case.mode]["io_bytes"] / (result[case.mode]["runtime"] / 1e3)


def prepare_fio_file(options):
    """Written once in full: unwritten extents read and write at another speed."""
    run(["fio", "--name=strata", f"--filename={os.path.join(options.path, 'compare.fio')}",
         f"--size={options.file_size}", "--rw=write", "--bs=1M", "--iodepth=16", "--ioengine=io_uring", "--direct=1",
         "--output-format=json"])


def io_round(options, cases, found, number):
    for case in cases:
        entry = found.setdefault(case.name, Comparison(case.name, "fio io_uring"))
        # The order changes every round, so that neither always runs in the other's wake.
        if number % 2 == 0:
            ours, theirs = io_ours(options, case), io_theirs(options, case)
        else:
            theirs, ours = io_theirs(options, case), io_ours(options, case)
        entry.add(ours / 1e9, theirs / 1e9)


# --- The report ---


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def print_table(found):
    print(f"{'what':40} {'beside':18} {'ours':>10} {'theirs':>10} {'unit':10} {'ratio':>7} {'min':>7} {'max':>7} rounds")
    for entry in found.values():
        ratio = summary(entry.ratios)
        print(f"{entry.name:40} {entry.reference:18} {statistics.median(entry.ours):10.3f} "
              f"{statistics.median(entry.theirs):10.3f} {entry.unit:10} {ratio['median']:7.3f} {ratio['min']:7.3f} "
              f"{ratio['max']:7.3f} {len(entry.ratios):6}")


def write_json(path, found, options):
    document = {
        "machine": {"kernel": platform.release(), "cores": os.cpu_count()},
        "settings": {"rounds": options.rounds, "seconds": options.seconds, "params": options.params,
                     "path": options.path},
        "results": [{"name": e.name, "reference": e.reference, "unit": e.unit, "ours": e.ours, "theirs": e.theirs,
                     "ratios": e.ratios, "ratio": summary(e.ratios)} for e in found.values()],
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build", help="build folder (default: build)")
    parser.add_argument("--path", help="folder on the disk to measure; without it only Adam is measured")
    parser.add_argument("--only", choices=["io", "adam"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each run (default: 0.5)")
    parser.add_argument("--params", type=int, default=64 << 20, help="of the Adam pass")
    parser.add_argument("--threads", type=int, default=0, help="of the Adam pass; 0: all cores")
    parser.add_argument("--file-size", default="1G", help="of fio's file")
    parser.add_argument("--json", help="also write the samples to this file")
    parser.add_argument("--fio-plain", action="store_true", help="fio without registered buffers and files")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    if options.only == "io" and not options.path:
        parser.error("--only io needs --path")
    return options


def available(program, hint):
    if os.path.exists(program) or shutil.which(program):
        return True
    print(f"skipped: {program} not found; {hint}", file=sys.stderr)
    return False


def compare(options):
    found = {}
    with_adam = options.only != "io" and available(os.path.join(options.build, "bench", "bench_adam"),
                                                   "build it with -DSTRATA_BENCH=ON")
    with_io = (options.only != "adam" and options.path is not None and
               available(os.path.join(options.build, "bench", "bench_io"), "build it with -DSTRATA_BENCH=ON") and
               available("fio", "install fio"))
    cases = io_cases(options) if with_io else []
    if cases:
        prepare_fio_file(options)
    try:
        for number in range(options.rounds):
            if with_adam:
                adam_round(options, found)
            io_round(options, cases, found, number)
    finally:
        if cases:
            os.unlink(os.path.join(options.path, "compare.fio"))
    return found


def main():
    options = parse_options()
    try:
        found = compare(options)
    except Failure as failure:
        print(f"compare.py: {failure}", file=sys.stderr)
        return 1
    if not found:
        print("compare.py: nothing was measured", file=sys.stderr)
        return 1
    print_table(found)
    if options.json:
        write_json(options.json, found, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
