"""`strata train`, `digest` and `export` as a person and as a program use them.

usage: train_test.py STRATA SOURCE [unittest arguments]; STRATA_TEST_SEED repeats the kills of an earlier run.
"""
import contextlib
import fcntl
import json
import math
import os
import pathlib
import pty
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

STRATA = pathlib.Path(sys.argv[1]).resolve()
SOURCE = pathlib.Path(sys.argv[2]).resolve()
SEED = int(os.environ.get("STRATA_TEST_SEED", random.randrange(1 << 32)))
MODEL = SOURCE / "configs/models/gpt2-tiny.json"
DEMO = SOURCE / "configs/ds_demo.json"
BUDGETS = ["--device-memory", "16MiB", "--host-memory", "16MiB", "--disk-space", "64MiB"]
# On cores that others use too, LibTorch's threads would spend their time waiting for each other.
os.environ["OMP_NUM_THREADS"] = "1"
UNBROKEN = {}  # runs that nothing interrupts, made once for each setting


def config(placement="nvme", precision="bf16", **strata):
    """Two micro-batches of two, clipping at work, a schedule that doesn't depend on the number of steps."""
    offload = {
        "nvme": {"offload_param": {"device": "nvme", "max_in_cpu": 0}, "offload_optimizer": {"device": "nvme"}},
        "cpu": {"offload_param": {"device": "cpu"}, "offload_optimizer": {"device": "cpu"}},
        "split": {"offload_param": {"device": "nvme", "max_in_cpu": 100000},
                  "offload_optimizer": {"device": "nvme", "ratio": 0.5}},
    }[placement]
    document = {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 2,
        "gradient_clipping": 0.5,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "weight_decay": 0.01}},
        "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 5, "warmup_type": "linear"}},
        "zero_optimization": {"stage": 3, "sub_group_size": 40000, **offload},
        "strata": strata,
    }
    if precision == "bf16":
        document["bf16"] = {"enabled": True}
        document["data_types"] = {"grad_accum_dtype": "fp32"}
    return document


@contextlib.contextmanager
def mounted(folder, kind, options, source="none"):
    """Skips the test where mounting is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", kind, "-o", options, str(source), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        reason = done.stderr.strip() if done.returncode else ""
    except FileNotFoundError:
        reason = "no mount command"
    if reason:
        raise unittest.SkipTest(f"cannot mount {kind} here: {reason}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def lines_of(metrics):
    """Every line must parse; one that is still being written is left out."""
    if not metrics.exists():
        return []
    text = metrics.read_text()
    return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]


def losses_of(metrics):
    """By step; for a repeated step the last line counts."""
    return {line["step"]: line["loss"] for line in lines_of(metrics) if line["kind"] == "step"}


def end_digest(metrics):
    """Of the state after the last step; that `strata digest` prints the same is tested on its own."""
    end = lines_of(metrics)[-1]
    return end["state_digest"] if end["kind"] == "end" else None


class TrainCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Memory-backed where there is some: these tests are about order and bytes, not about the speed of a disk.
        shm = pathlib.Path("/dev/shm")
        roomy = shm.is_dir() and os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > 1 << 28
        cls.top = pathlib.Path(tempfile.mkdtemp(prefix="strata-train-", dir=shm if roomy else None))
        cls.data = cls.top / "text.txt"
        words = ["offload", "the", "of", "tier", "a", "model", "lane", "unit", "and", "step"]
        draw = random.Random(7)
        cls.data.write_text(" ".join(draw.choice(words) for _ in range(6000)))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.top)

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(dir=self.top))

    def write(self, name, content):
        file = self.dir / name
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    def command(self, out, *extra, settings=None, steps=6):
        """A new run. What is in `extra` wins."""
        file = self.write(f"{out.name}.json", settings or config())
        return [str(STRATA), "train", "--config", str(file), "--model", str(MODEL), "--data", str(self.data),
                "--sequence", "32", "--steps", str(steps), "--out", str(out), "--threads", "1",
                "--metrics", str(out.parent / f"{out.name}.jsonl"), *BUDGETS, *map(str, extra)]

    def call(self, command, code=0):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, code, f"{command}\n{done.stdout}{done.stderr}")
        return done

    def train(self, out, *extra, code=0, **named):
        return self.call(self.command(out, *extra, **named), code)

    def resume(self, out, *extra, code=0):
        return self.call([STRATA, "train", "--resume", "--out", out, *extra], code)

    def digest(self, out, *extra):
        return json.loads(self.call([STRATA, "digest", out, "--json", *extra]).stdout)

    def start(self, command):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.stop, process)
        return process

    @staticmethod
    def stop(process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def wait_for_step(self, process, metrics, step):
        until = time.monotonic() + 60
        while max(losses_of(metrics), default=0) < step and process.poll() is None:
            self.assertLess(time.monotonic(), until, "no step in a minute")
            time.sleep(0.002)

    def unbroken(self, settings, steps):
        """(losses, digest) of a run that nothing interrupts."""
        key = json.dumps(settings) + str(steps)
        if key not in UNBROKEN:
            self.train(self.dir / "unbroken", settings=settings, steps=steps)
            metrics = self.dir / "unbroken.jsonl"
            UNBROKEN[key] = (losses_of(metrics), end_digest(metrics))
        return UNBROKEN[key]

    def refused(self, done):
        """One clear line that says what and what to do; nothing of the machine's insides."""
        errors = [line for line in done.stderr.splitlines() if line.startswith("strata: ")]
        self.assertEqual(len(errors), 1, done.stderr)
        self.assertEqual(done.stderr.splitlines()[-1], errors[0])
        self.assertIn("; ", errors[0])
        self.assertNotRegex(done.stderr, r"terminate|what\(\)|Traceback|exception|\.cpp|frame #|internal error")
        return errors[0]


class ResumeTest(TrainCase):
    def test_interrupt_then_resume_gives_the_unbroken_run(self):
        settings, steps = config(), 40
        losses, digest = self.unbroken(settings, steps)
        for attempt in range(10):  # a fast machine may finish first
            out = self.dir / f"run{attempt}"
            metrics = self.dir / f"run{attempt}.jsonl"
            process = self.start(self.command(out, settings=settings, steps=steps))
            self.wait_for_step(process, metrics, 3)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=60)
            if process.returncode != 0:
                break
        self.assertEqual(process.returncode, 130, stderr)
        end = lines_of(metrics)[-1]
        self.assertEqual((end["kind"], end["reason"]), ("end", "interrupted"))
        self.assertIn("stopping after this step", stderr)
        self.assertIn(f"stopped after step {end['steps']}, state saved", stderr)
        self.assertIn(f"strata train --resume --out {out}", stderr)
        self.assertIn("state_digest", stdout)
        saved = self.digest(out)
        self.assertEqual((saved["step"], saved["state_digest"]), (end["steps"], end["state_digest"]))
        self.assertLess(end["steps"], steps)

        self.resume(out)
        self.assertEqual((losses_of(metrics), end_digest(metrics)), (losses, digest))

    def kill_again_and_again(self, settings, kills, *extra):
        steps = 12
        losses, digest = self.unbroken(settings, steps)
        draw = random.Random(SEED)
        out, metrics = self.dir / "run", self.dir / "run.jsonl"
        command = self.command(out, *extra, settings=settings, steps=steps)
        reached = 0
        for _ in range(kills):
            process = self.start(command)
            # Inside a step, between steps, or at the start, where the data files are made or found.
            self.wait_for_step(process, metrics, reached + draw.randrange(2))
            time.sleep(draw.random() * 0.02)
            process.kill()
            process.communicate()
            reached = min(max(losses_of(metrics), default=0), steps - 2)
            if (out / "run.json").exists():
                command = [str(STRATA), "train", "--resume", "--out", str(out)]
        self.call(command)
        self.assertEqual((losses_of(metrics), end_digest(metrics)), (losses, digest), f"STRATA_TEST_SEED={SEED}")
        for line in lines_of(metrics):
            if line["kind"] == "step":
                self.assertLessEqual(line["durable_step"], line["step"])

    def test_kill_with_state_on_disk(self):
        # So little memory that state is read again in every step.
        self.kill_again_and_again(config("nvme"), 10, "--host-memory", "3MiB")

    def test_kill_with_state_on_host(self):
        self.kill_again_and_again(config("cpu", commit_interval=1), 3)

    def test_kill_with_state_on_host_and_disk(self):
        self.kill_again_and_again(config("split"), 3)

    def test_kill_before_the_first_commit_starts_from_step_one(self):
        settings, steps = config(), 3
        losses, digest = self.unbroken(settings, steps)
        draw = random.Random(SEED + 1)
        begun = 0
        for attempt in range(8):
            if begun == 2:
                break
            out, metrics = self.dir / f"run{attempt}", self.dir / f"run{attempt}.jsonl"
            command = self.command(out, settings=settings, steps=steps)
            process = self.start(command)
            while not (out / "run.json").exists() and process.poll() is None:
                time.sleep(0.0005)
            time.sleep(draw.random() * 0.01)
            process.kill()
            process.communicate()
            if losses_of(metrics):
                continue
            begun += 1
            done = self.resume(out)
            self.assertIn("starting from step 1", done.stderr)
            self.assertEqual((losses_of(metrics), end_digest(metrics)), (losses, digest), f"STRATA_TEST_SEED={SEED}")
        self.assertGreater(begun, 0, "every kill came too late")

    def test_resume_of_a_start_that_was_killed_while_it_made_its_files(self):
        out = self.dir / "run"
        self.train(out, steps=2)
        record = json.loads((out / "run.json").read_text())
        record["data_files_made"] = False
        (out / "run.json").write_text(json.dumps(record))
        data = next(out.glob("strata-*/rank0.data"))
        data.write_bytes(data.read_bytes()[:5000])
        self.assertIn("nothing yet", self.refused(self.call([STRATA, "digest", out], 4)))
        self.resume(out, "--steps", "3")
        self.assertEqual(end_digest(self.dir / "run.jsonl"), self.unbroken(config(), 3)[1])

    def test_resume_of_a_finished_run_changes_nothing(self):
        out = self.dir / "run"
        self.train(out, steps=3)
        data = next(out.glob("strata-*/rank0.data"))
        before = data.read_bytes()
        for extra in ([], ["--steps", "2"]):
            done = self.resume(out, *extra)
            self.assertIn("nothing to do: the run has 3 steps already", done.stderr)
            self.assertIn("none, 3 were done before", done.stdout)
            self.assertNotIn("loss", done.stdout)
        self.assertEqual(data.read_bytes(), before)

    def test_more_steps_continue_a_finished_run(self):
        losses, digest = self.unbroken(config(), 12)
        out, metrics = self.dir / "run", self.dir / "run.jsonl"
        self.train(out, steps=5)
        self.resume(out, "--steps", "12")
        self.assertEqual((losses_of(metrics), end_digest(metrics)), (losses, digest))

    def test_changed_settings_are_listed_and_need_consent(self):
        out = self.dir / "run"
        self.train(out, steps=2)
        before = (out / "run.json").read_text()
        other = self.write("other.json", config(precision="fp32"))
        changes = ["--sequence", "16", "--seed", "7", "--config", other]
        done = self.resume(out, *changes, code=2)
        self.assertIn("--allow-change", self.refused(done))
        self.assertIn("changed sequence: 32 -> 16", done.stderr)
        self.assertIn("changed seed: 42 -> 7", done.stderr)
        self.assertIn("changed config: its content has changed", done.stderr)
        self.assertEqual((out / "run.json").read_text(), before)
        # The same values again are no change.
        self.resume(out, "--sequence", "32", "--config", self.dir / "run.json", "--model", MODEL)
        self.resume(out, "--sequence", "16", "--seed", "7", "--steps", "3", "--allow-change")
        # What was allowed once is the run's setting from now on.
        self.resume(out, "--sequence", "16", "--steps", "4")

    def test_changed_data_and_model_need_consent(self):
        data = self.write("own.txt", self.data.read_text())
        model = self.write("own-model.json", MODEL.read_text())
        out = self.dir / "run"
        self.train(out, "--model", model, "--data", data, steps=2)  # --data twice: both files
        data.write_text(data.read_text().upper())
        self.assertIn("data has changed", self.refused(self.resume(out, "--steps", "3", code=2)))
        self.resume(out, "--steps", "3", "--allow-change")
        model.write_text(model.read_text().replace('"n_head": 4', '"n_head": 8'))
        done = self.resume(out, "--steps", "4", code=2)
        self.refused(done)
        self.assertIn("changed model: its content has changed", done.stderr)

    def test_paths_of_a_run_cannot_change(self):
        out = self.dir / "run"
        self.train(out, steps=2)
        self.assertIn("--path", self.refused(self.resume(out, "--path", self.dir, "--allow-change", code=2)))

    def test_a_run_without_resume_is_never_overwritten(self):
        out = self.dir / "run"
        self.train(out, steps=2)
        files = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
        self.assertEqual(len(files), 2)
        self.assertIn("--resume", self.refused(self.train(out, steps=9, code=2)))
        self.assertEqual({file: file.read_bytes() for file in out.rglob("*") if file.is_file()}, files)

    def test_two_processes_on_one_run(self):
        out, metrics = self.dir / "run", self.dir / "run.jsonl"
        first = self.start(self.command(out, steps=1000000))
        self.wait_for_step(first, metrics, 1)
        begin = time.monotonic()
        for command in (["train", "--resume", "--out", out], ["export", out, "--to", self.dir / "to"]):
            self.assertIn("in use by another process", self.refused(self.call([STRATA, *command], 4)))
        self.assertLess(time.monotonic() - begin, 10, "it waits for a lock")
        self.assertFalse((self.dir / "to").exists())
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=60)
        self.assertEqual(first.returncode, 130)
        steps = lines_of(metrics)[-1]["steps"]
        self.assertEqual(self.digest(out)["step"], steps)

    def test_of_two_new_runs_in_one_folder_one_goes_on(self):
        out = self.dir / "run"
        both = [self.start(self.command(out, steps=3)) for _ in range(2)]
        for process in both:
            process.communicate(timeout=60)
        codes = sorted(process.returncode for process in both)
        self.assertEqual(codes[0], 0)
        self.assertIn(codes[1], (2, 4))
        self.resume(out)
        self.assertEqual(end_digest(self.dir / "run.jsonl"), self.unbroken(config(), 3)[1])
        self.assertEqual(len(list(out.glob("strata-*"))), 1)

    def test_interrupt_during_the_start(self):
        out = self.dir / "run"
        process = self.start(self.command(out, steps=1000000))
        while not (out / "run.json").exists() and process.poll() is None:
            time.sleep(0.0005)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.resume(out, "--steps", "8" if lines_of(self.dir / "run.jsonl") else "1")

    def test_a_data_file_that_is_missing(self):
        out = self.dir / "run"
        self.train(out, steps=2)
        data = next(out.glob("strata-*/rank0.data"))
        data.rename(self.dir / "aside")
        self.assertIn(str(data), self.refused(self.resume(out, "--steps", "3", code=4)))

    def test_a_damaged_record(self):
        self.write("run.json", "{}")
        self.assertRegex(self.refused(self.resume(self.dir, code=4)), r"run\.json' is damaged: key 'schema' not found")

    def test_a_torn_last_line_of_the_metrics_goes(self):
        out, metrics = self.dir / "run", self.dir / "run.jsonl"
        self.train(out, steps=2)
        whole = metrics.read_text()
        metrics.write_text(whole + '{"kind": "st')
        self.resume(out, "--steps", "3")
        self.assertTrue(metrics.read_text().startswith(whole))
        for line in metrics.read_text().splitlines():
            json.loads(line)


class BadInputTest(TrainCase):
    def check(self, code, pattern, *extra, settings=None):
        """Refused with one line like `pattern`, and nothing is left."""
        out = self.dir / "above/run"
        command = self.command(self.dir / "run", settings=settings)
        command[command.index("--out") + 1] = str(out)
        kept = set(self.dir.rglob("*"))
        line = self.refused(self.call([*command, *extra], code))
        self.assertRegex(line, pattern)
        self.assertEqual(set(self.dir.rglob("*")) - kept, set(), "something is left behind")
        return line

    def test_usage(self):
        cases = [
            (["--steps", "0"], r"--steps is '0'; give a whole number of at least 1"),
            (["--sequence", "abc"], r"--sequence is 'abc'"),
            (["--sequence", "1000"], r"--sequence 1000 is outside 1\.\.128"),
            (["--micro-batch", "0"], r"--micro-batch is '0'"),
            (["--device", "gpu"], r"--device is 'gpu'; give auto or cpu"),
            (["--device-memory", "12QiB"], r"--device-memory: '12QiB' is not a size; write bytes .* KiB"),
            (["--bogus"], r"--bogus.*; see strata train --help"),
        ]
        for extra, pattern in cases:
            with self.subTest(extra):
                self.check(2, pattern, *extra)

    def test_commands(self):
        for command, pattern in [(["trian"], r"no command 'trian'; see strata --help"),
                                 (["train"], r"--out is required; see strata train --help"),
                                 (["train", "--out", self.dir / "x"], r"no model; give --model"),
                                 (["train", "--out", self.dir / "x", "--model", MODEL], r"no data; give --data")]:
            with self.subTest(command):
                self.assertRegex(self.refused(self.call([STRATA, *command], 2)), pattern)
        self.assertRegex(self.refused(self.call([STRATA, "train", "--resume", "--out", self.dir], 4)), "no run in")

    def test_config(self):
        cases = [("{", r"run\.json:1:\d+: not valid JSON"),
                 ({"zero_optimization": {"stage": 7}, "train_batch_size": 1}, r"zero_optimization\.stage = 7"),
                 ({"fp16": {"enabled": True}, "train_batch_size": 1}, r"fp16")]
        for content, pattern in cases:
            with self.subTest(content):
                self.check(2, pattern, settings=content)
        self.check(2, r"cannot read '.*missing\.json'", "--config", self.dir / "missing.json")

    def test_data(self):
        empty, short = self.write("empty.txt", ""), self.write("short.txt", "ten bytes.")
        (self.dir / "nothing").mkdir()
        out = self.dir / "run"
        command = self.command(out)
        at = command.index("--data") + 1
        for data, pattern in [(self.dir / "missing.txt", r"data: .*missing\.txt does not exist"),
                              (empty, r"no text in .*empty\.txt"), (self.dir / "nothing", r"no text in .*nothing"),
                              (short, r"10 bytes of text are less than one sample")]:
            with self.subTest(data):
                command[at] = str(data)
                self.assertRegex(self.refused(self.call(command, 2)), pattern)
                self.assertFalse(out.exists())

    def test_model(self):
        model = json.loads(MODEL.read_text())
        cases = [({**model, "vocab_size": 100}, r"255, beyond the model's vocabulary of 100"),
                 ({**model, "model_type": "bert"}, r'model_type: "bert" is not supported; gpt2 and llama are'),
                 ({**model, "n_embd": 65}, r"n_embd"), ("{", r"model\.json: parse error at line 1")]
        for content, pattern in cases:
            with self.subTest(pattern):
                self.check(2, pattern, "--model", self.write("model.json", content))
        self.check(2, r"config\.json is not a file", "--model", self.dir)

    def test_places_that_cannot_be_written(self):
        file = self.write("file", "no folder")
        self.check(2, r"cannot make the run folder '/proc/", "--out", "/proc/strata-run")
        self.check(2, r"cannot make the run folder", "--out", file)
        self.check(2, r"'.*missing' is no folder", "--path", self.dir / "missing")
        self.check(2, r"cannot write the metrics file", "--metrics", self.dir / "missing/m.jsonl")
        # A metrics file that was made for a run that then was refused.
        self.check(2, r"is no folder", "--path", file, "--metrics", self.dir / "new.jsonl")

    def test_read_only_path(self):
        with mounted(self.dir / "ro", "tmpfs", "ro,size=64m") as path:
            self.check(4, r"cannot make the folder '.*ro/strata-.*Read-only file system; give a path", "--path", path)
            self.assertRegex(self.refused(self.train(path / "run", "--metrics", self.dir / "m", code=2)),
                             "cannot make the run folder")

    def test_full_path(self):
        with mounted(self.dir / "small", "tmpfs", "size=3m") as path:
            self.check(3, r"needs .* which has 3\.00 MiB free", "--path", path)
            self.assertEqual(list(path.iterdir()), [])
            # Without a budget of its own the run sees itself that the path is too small.
            command = self.command(self.dir / "above/run", "--path", path)
            del command[command.index("--disk-space"):command.index("--disk-space") + 2]
            self.assertRegex(self.refused(self.call(command, 3)), r"the disk tier needs")

    def test_full_ext4(self):
        image = self.write("image", "")
        os.truncate(image, 8 << 20)
        try:
            subprocess.run(["mkfs.ext4", "-q", str(image)], check=True, capture_output=True)
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            self.skipTest(f"no ext4 image here: {error}")
        with mounted(self.dir / "ext4", "ext4", "loop", image) as path:
            (path / "filler").write_bytes(bytes(3 << 20))
            kept = set(path.iterdir())
            self.check(3, r"needs .* free", "--path", path)
            self.assertEqual(set(path.iterdir()), kept)

    def test_a_file_system_without_direct_io_works_with_a_warning(self):
        digest = self.unbroken(config(), 3)[1]
        with mounted(self.dir / "ramfs", "ramfs", "rw") as path:
            out = self.dir / "run"
            done = self.train(out, "--path", path, steps=3)
            self.assertRegex(done.stderr, r"warning: '.*ramfs' is on ramfs, which refuses O_DIRECT")
            self.assertEqual(self.digest(out)["state_digest"], digest)

    def test_too_small_a_budget_names_a_change_that_works(self):
        small = ["--device-memory", "1MiB", "--host-memory", "1MiB", "--disk-space", "1MiB"]
        # A block whose gradients are more than the slack of any estimate.
        wide = self.write("wide.json", {**json.loads(MODEL.read_text()), "n_embd": 512, "n_layer": 1, "n_head": 8})
        for number, (settings, extra) in enumerate([(config("nvme"), []), (config("cpu"), ["--recompute", "none"]),
                                                    (config("nvme", "fp32"), ["--in-memory"]),
                                                    (config("nvme"), ["--model", wide])]):
            with self.subTest(number):
                line = self.check(3, r"does not fit: the \w+ tier needs .* has a budget of 1\.00 MiB; give --", *small,
                                  *extra, settings=settings)
                advice = re.findall(r"(--(?:device-memory|host-memory|disk-space)) (\S+?)(?=[ ,]|$)", line)
                self.assertGreaterEqual(len(advice), 2)
                out = self.dir / f"advised{number}"
                followed = [part for pair in advice for part in pair]
                self.train(out, *small, *followed, *extra, settings=settings, steps=2)
                # The smallest: one MiB less of any of them is refused.
                for flag, size in advice if number == 0 else []:
                    less = f"{int(size.removesuffix('MiB')) - 1}MiB"
                    self.check(3, r"does not fit", *small, *followed, flag, less, *extra, settings=settings)

    def test_a_unit_larger_than_the_device_budget(self):
        model = {**json.loads(MODEL.read_text()), "n_embd": 512, "n_layer": 1, "n_head": 8}
        line = self.check(3, r"does not fit: the device tier needs .* has a budget of 4\.00 MiB", "--model",
                          self.write("wide.json", model), "--device-memory", "4MiB", "--host-memory", "400MiB",
                          "--disk-space", "400MiB")
        self.assertIn("give --device-memory", line)


class MetricsTest(TrainCase):
    def conform(self, value, schema, where="$"):
        """The part of JSON schema that docs/schemas/metrics.schema.json uses."""
        types = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int,
                 "number": (int, float)}
        if "anyOf" in schema:
            for one in schema["anyOf"]:
                with contextlib.suppress(AssertionError):
                    return self.conform(value, one, where)
            self.fail(f"{where}: {value!r} is none of {schema['anyOf']}")
        known = {"type", "properties", "required", "items", "additionalProperties", "const", "enum", "minimum",
                 "minItems", "minProperties", "pattern", "description"}
        self.assertEqual(set(schema) - known, set(), where)
        if "type" in schema:
            allowed = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            of_type = any(isinstance(value, types[name]) and (name == "boolean" or not isinstance(value, bool))
                          for name in allowed)
            self.assertTrue(of_type, f"{where}: {value!r} is not {allowed}")
        if "const" in schema:
            self.assertEqual(value, schema["const"], where)
        if "enum" in schema:
            self.assertIn(value, schema["enum"], where)
        if "minimum" in schema and value is not None:
            self.assertGreaterEqual(value, schema["minimum"], where)
        if "pattern" in schema and value is not None:
            self.assertRegex(value, schema["pattern"], where)
        if isinstance(value, list):
            self.assertGreaterEqual(len(value), schema.get("minItems", 0), where)
            for number, item in enumerate(value):
                self.conform(item, schema.get("items", {}), f"{where}[{number}]")
        if isinstance(value, dict):
            self.assertEqual(set(schema.get("required", ())) - set(value), set(), f"{where}: missing")
            self.assertGreaterEqual(len(value), schema.get("minProperties", 0), where)
            for name, item in value.items():
                rest = schema.get("additionalProperties", {})
                self.conform(item, schema.get("properties", {}).get(name, rest), f"{where}.{name}")
        return None

    def setUp(self):
        super().setUp()
        schema = json.loads((SOURCE / "docs/schemas/metrics.schema.json").read_text())
        self.kinds = {one["properties"]["kind"]["const"]: one for one in schema["oneOf"]}

    def test_every_line_says_what_the_formats_promise(self):
        version = re.fullmatch(r"strata (\S+) \((\S+)\)\n", self.call([STRATA, "--version"]).stdout)
        for name, settings, extra in [("disk", config("nvme"), ["--host-memory", "4MiB"]), ("host", config("cpu"), []),
                                      ("memory", config(precision="fp32"), ["--in-memory"])]:
            with self.subTest(name):
                out = self.dir / name
                done = self.train(out, *extra, settings=settings, steps=5)
                self.resume(out, "--steps", "7")
                lines = lines_of(self.dir / f"{name}.jsonl")
                self.assertEqual([line["kind"] for line in lines],
                                 ["header"] + ["step"] * 5 + ["end", "header"] + ["step"] * 2 + ["end"])
                for line in lines:
                    self.assertEqual((line["strata_version"], line["commit"]), version.groups())
                    self.conform(line, self.kinds[line["kind"]])
                self.check_headers(lines[0], lines[7], out, settings)
                self.check_steps([line for line in lines if line["kind"] == "step"], lines[0])
                self.assertEqual((lines[6]["reason"], lines[6]["steps"]), ("done", 5))
                self.assertIn(lines[6]["state_digest"], done.stdout)
                self.assertEqual(lines[-1]["state_digest"], self.digest(out)["state_digest"])

    def check_headers(self, first, second, out, settings):
        self.assertIsNone(first["resumed_from_step"])
        self.assertEqual(second["resumed_from_step"], 5)
        self.assertEqual(first["run_id"], json.loads((out / "run.json").read_text())["run_id"])
        self.assertEqual(first["run_id"], second["run_id"])
        shape = [first[key] for key in ("micro_batch", "accumulation", "sequence", "seed")]
        self.assertEqual(shape, [2, 2, 32, 42])
        self.assertEqual(first["precision"], "bf16" if "bf16" in settings else "fp32")
        self.assertEqual(first["budget_bytes"]["device"], 16 << 20)
        self.assertEqual(first["lanes"]["disk_read:0"], str(out))
        for lane in first["lanes"]:
            self.assertRegex(lane, r"^(disk_(read|write):\d+|h2d|d2h|all_gather|reduce_scatter|compute|cpu_optimizer)$")
        self.assertEqual((first["rank"], first["world_size"], first["device"]), (0, 1, "cpu"))
        self.assertEqual(first["params_total"], first["params_trainable"])

    def check_steps(self, steps, header):
        for number, line in enumerate(steps, 1):
            self.assertEqual((line["step"], line["applied_steps"]), (number, number))
            self.assertEqual((line["samples"], line["tokens"]), (4 * number, 4 * 32))
            stalls = sum(sum(lane.values()) for lane in line["stall_s"].values())
            parts = line["compute_s"] + stalls + line["other_s"]
            self.assertTrue(math.isclose(parts, line["step_s"], rel_tol=0.01), line)
            self.assertGreater(line["compute_s"], 0)
            self.assertTrue(math.isclose(line["tokens_per_s"], line["tokens"] / line["step_s"], rel_tol=1e-6))
            self.assertTrue(set(line["bytes"]) <= set(header["lanes"]))
            self.assertLessEqual(line["durable_step"], number)
            self.assertAlmostEqual(line["clip_factor"], min(1, 0.5 / (line["grad_norm"] + 1e-6)), places=5)
            for tier in ("device", "host"):
                self.assertLessEqual(line["peak_bytes"][tier], header["budget_bytes"][tier])

    def test_steps_fill_the_time_between_header_and_end(self):
        self.train(self.dir / "run", steps=30)
        lines = lines_of(self.dir / "run.jsonl")
        steps = sum(line["step_s"] for line in lines if line["kind"] == "step")
        self.assertLessEqual(steps, lines[-1]["wall_s"])


class DigestTest(TrainCase):
    def checker(self):
        for python in (SOURCE / ".venv/bin/python3", sys.executable, "/usr/bin/python3"):
            with contextlib.suppress(OSError):
                probe = [str(python), "-c", "import xxhash; xxhash.xxh3_128"]
                if subprocess.run(probe, capture_output=True).returncode == 0:
                    return [str(python), str(SOURCE / "tests/support/digest_check.py")]
        raise unittest.SkipTest("no python3 with the xxhash module")

    def test_a_script_recomputes_the_digest_from_the_export(self):
        checker = self.checker()
        for settings in (config("nvme"), config("split", "fp32")):
            with self.subTest(settings):
                out = self.dir / ("bf16" if "bf16" in settings else "fp32")
                to = self.dir / f"{out.name}-export"
                self.train(out, settings=settings, steps=3)
                printed = self.call([STRATA, "digest", out, "--per-tensor"]).stdout
                listed = self.digest(out, "--per-tensor")
                self.call([STRATA, "export", out, "--what", "state", "--to", to])
                mine = self.call([*checker, to, "--per-tensor"]).stdout.split("\n")
                self.assertEqual(mine[-2], listed["state_digest"])
                tensors = dict(reversed(line.split("  ")) for line in mine[:-2])
                self.assertEqual(tensors, listed["tensors"])
                self.assertEqual(len(tensors), 3 * 40)
                for name, digest in tensors.items():
                    self.assertIn(f"{digest}  {name}\n", printed)
                self.assertRegex(printed, f"state_digest +{listed['state_digest']}\n")
                self.assertRegex(printed, f"resume_digest +{listed['resume_digest']}\n")
                self.call([*checker, to, "--expect", "0" * 32], 1)

    def test_export_refuses_what_it_cannot_write(self):
        out = self.dir / "run"
        self.train(out, steps=1)
        refused = self.refused(self.call([STRATA, "export", out, "--to", self.data], 2))
        self.assertIn("cannot make the folder", refused)
        self.refused(self.call([STRATA, "export", out, "--to", self.dir / "x", "--what", "everything"], 2))

    def test_offloaded_equals_in_memory(self):
        placements = [("nvme", ["--in-memory"]), ("nvme", ["--host-memory", "4MiB"]), ("cpu", ["--threads", "2"]),
                      ("split", [])]
        for precision, count in (("bf16", 4), ("fp32", 2)):
            results = []
            for number, (placement, extra) in enumerate(placements[:count]):
                out = self.dir / f"{precision}{number}"
                self.train(out, *extra, settings=config(placement, precision), steps=5)
                metrics = self.dir / f"{out.name}.jsonl"
                results.append((end_digest(metrics), losses_of(metrics)))
            self.assertEqual(len(results[0][1]), 5)
            for result in results[1:]:
                self.assertEqual(result, results[0])

    def test_the_seed_counts(self):
        digests = set()
        for seed in ("1", "2"):
            self.train(self.dir / seed, "--seed", seed, steps=1)
            digests.add(end_digest(self.dir / f"{seed}.jsonl"))
        self.assertEqual(len(digests), 2)


class ScreenTest(TrainCase):
    LINE = re.compile(r"step \d+/\d+  loss \d+\.\d{4}  lr \d\.\d\de[-+]\d\d  \d+ tokens/s  \d+:\d\d:\d\d left  "
                      r"disk \d+\.\d\d GB/s  device [\d.]+ [KM]?i?B  host [\d.]+ [KM]?i?B")

    def test_plain_lines_without_a_terminal(self):
        done = self.train(self.dir / "run", steps=20)
        self.assertNotIn("\x1b", done.stderr + done.stdout)
        self.assertNotIn("\r", done.stderr + done.stdout)
        lines = [line for line in done.stderr.splitlines() if line.startswith("step ")]
        for line in lines:
            self.assertRegex(line, self.LINE)
        self.assertTrue(lines[0].startswith("step 1/20") and lines[-1].startswith("step 20/20"))
        self.assertRegex(done.stderr, r"device_memory: 16\.0 MiB \(command line\)")
        self.assertRegex(done.stderr, r"(?m)^the run will write [\d.]+ MiB to disk")
        names = [line.split("  ")[0].strip() for line in done.stdout.splitlines()]
        self.assertEqual(names, ["parameters", "device memory", "host memory", "disk", "steps", "loss", "tokens/s",
                                 "state_digest"])

    def on_terminal(self, command, columns):
        child, master = pty.fork()
        if child == 0:
            os.execv(command[0], command)
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        output = b""
        with contextlib.suppress(OSError):  # EIO when the child has ended
            while piece := os.read(master, 4096):
                output += piece
        os.close(master)
        _, status = os.waitpid(child, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 0, output)
        return output.decode()

    def test_one_line_that_is_rewritten_on_a_terminal(self):
        output = self.on_terminal(self.command(self.dir / "run", steps=40), 60)
        drawn = [part for part in output.replace("\r\n", "\n").split("\r\x1b[K")[1:]]
        self.assertGreater(len(drawn), 1)
        for part in drawn[:-1]:
            self.assertNotIn("\n", part)
        for part in drawn:
            self.assertLess(len(part.split("\n")[0]), 60)
        self.assertTrue(drawn[0].startswith("step 1/40") and drawn[-1].startswith("step 40/40"), drawn)
        # The summary begins on a line of its own, and directly below.
        self.assertRegex(drawn[-1], r"^step 40/40[^\n]*\nparameters ")

    def test_help_fits_and_names_every_flag(self):
        text = self.call([STRATA, "train", "--help"]).stdout
        for flag in ("config model data steps sequence micro-batch accumulate seed out path device device-memory "
                     "host-memory disk-space metrics in-memory resume allow-change recompute threads").split():
            self.assertRegex(text, rf"--{flag}\b")
        for line in text.splitlines():
            self.assertLessEqual(len(line), 120)

    def test_without_a_config_everything_has_a_default(self):
        out = self.dir / "run"
        self.call([STRATA, "train", "--model", MODEL, "--data", self.data, "--sequence", "16", "--steps", "2", "--out",
                   out, "--metrics", self.dir / "m.jsonl"])
        header = lines_of(self.dir / "m.jsonl")[0]
        self.assertEqual((header["precision"], header["micro_batch"], header["accumulation"]), ("fp32", 1, 1))

    def test_auto_bucket_sizes_follow_the_model(self):
        settings = config()
        settings["zero_optimization"].update(reduce_bucket_size="auto", stage3_prefetch_bucket_size="auto",
                                             stage3_param_persistence_threshold="auto")
        done = self.train(self.dir / "run", settings=settings, steps=1)
        self.assertRegex(done.stderr, r"stage3_prefetch_bucket_size = 3686")  # 0.9 x 64 x 64


if __name__ == "__main__":
    print(f"STRATA_TEST_SEED={SEED}", file=sys.stderr)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
