#!/usr/bin/env python3
"""Peak memory is a promise: a model whose state is at least eight times the memory given trains within the budgets.

usage: memory_test.py STRATA SOURCE_DIR
Peak = the highest RssAnon + RssShmem + HugetlbPages seen, minus what the process held when its libraries were loaded
(header of the metrics). Allowed: budgets x 1.03 + 64 MiB. As root, a second run is put under a cgroup limit as well.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20
DEVICE, HOST = 56 * MIB, 70 * MIB
STRATA, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])


def resident(pid):
    try:
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(int(re.search(rf"{name}:\s+(\d+)", text)[1]) * 1024
               for name in ("RssAnon", "RssShmem", "HugetlbPages") if re.search(rf"{name}:\s+(\d+)", text))


def write_model(folder):
    model = {"model_type": "gpt2", "vocab_size": 256, "n_positions": 128, "n_embd": 512, "n_layer": 24, "n_head": 8,
             "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    (folder / "model.json").write_text(json.dumps(model))
    (folder / "text.txt").write_text("all work and no play makes jack a dull boy. " * 2000)


def command(folder, run):
    return [STRATA, "train", "--config", str(SOURCE / "configs/ds_demo.json"), "--model", str(folder / "model.json"),
            "--data", str(folder / "text.txt"), "--out", str(folder / run), "--steps", "3", "--sequence", "64",
            "--micro-batch", "1", "--accumulate", "2", "--device-memory", str(DEVICE), "--host-memory", str(HOST),
            "--metrics", str(folder / f"{run}.jsonl")]


def run_sampled(folder, run, preexec=None):
    process = subprocess.Popen(command(folder, run), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=preexec)
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.002)
    out, err = process.communicate()
    if process.returncode != 0:
        sys.exit(f"exit {process.returncode}\n{err}")
    lines = [json.loads(line) for line in (folder / f"{run}.jsonl").read_text().splitlines()]
    return peak, lines, err


def check(folder):
    peak, lines, plan = run_sampled(folder, "sampled")
    header, steps = lines[0], [x for x in lines if x["kind"] == "step"]
    state = header["params_total"] * 14
    given = DEVICE + HOST
    used = peak - header["resident_baseline_bytes"]
    allowed = int(given * 1.03) + 64 * MIB
    print(f"state {state / MIB:.0f} MiB = {state / given:.1f} x the {given / MIB:.0f} MiB given; peak {used / MIB:.1f} MiB "
          f"over a baseline of {header['resident_baseline_bytes'] / MIB:.1f}, allowed {allowed / MIB:.1f}")
    assert state >= 8 * given, "the model is too small for this test"
    disk = next(line for line in plan.splitlines() if line.startswith("disk "))
    assert "gradient" in disk, f"gradients were meant to spill: {disk}"
    assert used <= allowed, f"peak {used} above {allowed}"
    for step in steps:
        assert step["peak_bytes"]["device"] <= DEVICE and step["peak_bytes"]["host"] <= HOST, step["peak_bytes"]
    return header["resident_baseline_bytes"], steps[-1]["loss"]


def cgroup(limit):
    """A memory cgroup with that limit (v1 or v2), or why there is none."""
    for root, name in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = pathlib.Path(root) / f"strata-test-{os.getpid()}"
        try:
            group.mkdir()
            (group / name).write_text(str(limit))
            return group, None
        except OSError as error:
            reason = str(error)
            if group.exists():
                group.rmdir()
    return None, reason


def check_under_cgroup(folder, baseline, loss):
    # The group counts page cache too; the kernel takes that back under pressure.
    group, reason = cgroup(int((DEVICE + HOST) * 1.03) + 64 * MIB + baseline)
    if group is None:
        print(f"skipped the cgroup run: {reason}")
        return
    try:
        _, lines, _ = run_sampled(folder, "limited",
                                  lambda: (group / "cgroup.procs").write_text(str(os.getpid())))
        assert [x for x in lines if x["kind"] == "step"][-1]["loss"] == loss, "another result under the limit"
        print("the same result under a cgroup limit")
    finally:
        time.sleep(0.1)
        group.rmdir()


def main():
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = pathlib.Path(name).resolve()
        write_model(folder)
        baseline, loss = check(folder)
        check_under_cgroup(folder, baseline, loss)


main()
