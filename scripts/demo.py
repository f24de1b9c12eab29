#!/usr/bin/env python3
"""`make demo`: trains a GPT that is larger than its memory budget on text that is there, then a short run of the same
offloaded and in memory, and prints one table. Standard library only."""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def text_sources():
    """The project's own sources and docs, and the system's documentation."""
    places = [ROOT / "src", ROOT / "docs", ROOT / "include", ROOT / "kernels", ROOT / "README.md",
              pathlib.Path("/usr/share/doc"), pathlib.Path("/usr/share/common-licenses"),
              pathlib.Path("/usr/include")]
    return [str(p) for p in places if p.exists()]


def last_end(metrics):
    steps, end = [], None
    for line in metrics.read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "step":
            steps.append(record)
        elif record["kind"] == "end":
            end = record
    return steps, end


def train(args, name, steps, extra):
    out = args.work / name
    metrics = args.work / f"{name}.jsonl"
    command = [args.strata, "train", "--config", str(ROOT / "configs/ds_demo.json"),
               "--model", str(ROOT / "configs/models/gpt2-demo.json"), "--out", str(out), "--steps", str(steps),
               "--sequence", "256", "--micro-batch", "4", "--accumulate", "2", "--seed", "1", "--metrics", str(metrics),
               *[x for p in text_sources() for x in ("--data", p)], *extra]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(done.returncode)
    rows = dict(line.split(None, 1) for line in done.stdout.splitlines() if line and line[0] != " ")
    return out, *last_end(metrics), done.stdout, rows


def gib(count):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit in ("B", "KiB") else f"{count:.1f} {unit}"
        count /= 1024


def tokens_per_s(steps):
    timed = steps[1:] or steps
    return sum(s["tokens"] for s in timed) / sum(s["step_s"] for s in timed)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--strata", required=True)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "demo-run")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--short-steps", type=int, default=8)
    parser.add_argument("--device-memory", default="48MiB")
    parser.add_argument("--host-memory", default="48MiB")
    args = parser.parse_args()
    args.strata = str(pathlib.Path(args.strata).resolve())
    if args.work.exists():
        shutil.rmtree(args.work)
    args.work.mkdir(parents=True)
    budgets = ["--device-memory", args.device_memory, "--host-memory", args.host_memory]

    print(f"== training {args.steps} steps with everything beyond the budgets on disk", flush=True)
    _, steps, end, summary, _ = train(args, "offloaded", args.steps, budgets)
    print(f"== {args.short_steps} steps of the same, offloaded", flush=True)
    _, short, short_end, _, _ = train(args, "short-offloaded", args.short_steps, budgets)
    print(f"== {args.short_steps} steps of the same, in memory", flush=True)
    _, memory, memory_end, _, _ = train(args, "short-in-memory", args.short_steps, ["--in-memory", "--device-memory",
                                                                                   "4GiB"])

    header = json.loads((args.work / "offloaded.jsonl").read_text().splitlines()[0])
    parameters = header["params_total"]
    state = parameters * 14
    given = header["budget_bytes"]["device"] + header["budget_bytes"]["host"]
    used = {tier: max(s["peak_bytes"][tier] for s in steps) for tier in ("device", "host")}
    entropy = next(line for line in summary.splitlines() if line.startswith("loss")).split("data ")[1].rstrip(")")
    equal = short_end["state_digest"] == memory_end["state_digest"] and \
        [s["loss"] for s in short] == [s["loss"] for s in memory]
    rows = [
        ("model", f"{parameters / 1e6:.1f} M parameters, state {gib(state)} (weights bf16 + fp32, two moments)"),
        ("memory given", f"{gib(given)} (device {gib(header['budget_bytes']['device'])}, host "
                         f"{gib(header['budget_bytes']['host'])}): {state / given:.1f}x less than the state"),
        ("memory used", f"device {gib(used['device'])}, host {gib(used['host'])}"),
        ("loss", f"{steps[0]['loss']:.3f} at the start, {steps[-1]['loss']:.3f} after {len(steps)} steps "
                 f"(entropy of single bytes: {entropy})"),
        ("tokens/s", f"{tokens_per_s(short):.0f} offloaded, {tokens_per_s(memory):.0f} in memory "
                     f"({100 * tokens_per_s(short) / tokens_per_s(memory):.0f} %)"),
        ("digests", f"{'equal' if equal else 'NOT EQUAL'}: {short_end['state_digest']} offloaded, "
                    f"{memory_end['state_digest']} in memory, after {len(short)} steps"),
    ]
    print()
    for name, value in rows:
        print(f"{name:<13} {value}")
    shutil.rmtree(args.work)
    if not equal:
        sys.exit(1)
    if steps[-1]["loss"] >= float(entropy):
        print("the loss did not fall below the entropy of single bytes", file=sys.stderr)
        sys.exit(1)


main()
