#!/usr/bin/env python3
"""Recomputes state_digest from what `strata export RUN --what state` wrote, by the words of docs/formats.md alone.

usage: digest_check.py FILE.safetensors|FOLDER [--expect DIGEST] [--per-tensor]

Prints the digest. Exit code 1 when it is not the expected one, 4 when the files can't be read as a state.
"""
import argparse
import json
import pathlib
import struct
import sys

import xxhash

KINDS = ["master", "exp_avg", "exp_avg_sq", "momentum", "sum"]
DTYPES = {"F32": (0, 4), "BF16": (1, 2), "F16": (2, 2)}
PIECE = 16 << 20


class BadState(Exception):
    pass


def product(shape):
    result = 1
    for extent in shape:
        result *= extent
    return result


def read_header(path):
    """-> (tensors {name: entry}, metadata, offset of the data)"""
    size = path.stat().st_size
    with open(path, "rb") as file:
        prefix = file.read(8)
        if len(prefix) != 8:
            raise BadState(f"{path}: shorter than a header")
        (length,) = struct.unpack("<Q", prefix)
        if length > size - 8:
            raise BadState(f"{path}: its header claims {length} bytes")
        tensors = json.loads(file.read(length).decode("utf-8"))
    metadata = tensors.pop("__metadata__", {})
    for name, entry in tensors.items():
        begin, end = entry["data_offsets"]
        if entry["dtype"] not in DTYPES:
            raise BadState(f"{path}: {name} has dtype {entry['dtype']}")
        if end - begin != product(entry["shape"]) * DTYPES[entry["dtype"]][1] or end > size - 8 - length:
            raise BadState(f"{path}: the range of {name} does not suit its type and shape")
    return tensors, metadata, 8 + length


def collect(source):
    """-> ({(parameter, kind index): (path, entry, data offset)}, applied steps)"""
    paths = sorted(source.glob("*.safetensors")) if source.is_dir() else [source]
    if not paths:
        raise BadState(f"{source}: no safetensors file")
    found, steps = {}, set()
    for path in paths:
        tensors, metadata, offset = read_header(path)
        if "applied_steps" not in metadata:
            raise BadState(f"{path}: no applied_steps in its metadata")
        steps.add(int(metadata["applied_steps"]))
        for name, entry in tensors.items():
            parameter, _, kind = name.rpartition(".")
            if kind not in KINDS or not parameter:
                raise BadState(f"{path}: {name} is no state of a parameter")
            key = (parameter.encode("utf-8"), KINDS.index(kind))
            if key in found:
                raise BadState(f"{path}: {name} is there twice")
            found[key] = (path, entry, offset)
    if len(steps) != 1:
        raise BadState(f"{source}: files of different steps: {sorted(steps)}")
    return found, steps.pop()


def record_hash(name, kind, applied_steps, path, entry, offset):
    code, _ = DTYPES[entry["dtype"]]
    hasher = xxhash.xxh3_128(seed=0)
    hasher.update(struct.pack("<I", len(name)) + name)
    hasher.update(struct.pack("<BBQQ", kind, code, product(entry["shape"]), applied_steps))
    begin, end = entry["data_offsets"]
    with open(path, "rb") as file:
        file.seek(offset + begin)
        left = end - begin
        while left > 0:
            piece = file.read(min(left, PIECE))
            if not piece:
                raise BadState(f"{path}: cut short")
            hasher.update(piece)
            left -= len(piece)
    return hasher.digest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--expect")
    parser.add_argument("--per-tensor", action="store_true")
    args = parser.parse_args()
    try:
        found, applied_steps = collect(args.source)
        total = xxhash.xxh3_128(seed=0)
        for (name, kind), (path, entry, offset) in sorted(found.items(), key=lambda item: item[0]):
            digest = record_hash(name, kind, applied_steps, path, entry, offset)
            total.update(digest)
            if args.per_tensor:
                print(f"{digest.hex()}  {name.decode('utf-8')}.{KINDS[kind]}")
    except (BadState, OSError, ValueError, KeyError, TypeError) as error:
        print(f"digest_check: {error}", file=sys.stderr)
        return 4
    print(total.hexdigest())
    if args.expect and args.expect != total.hexdigest():
        print(f"digest_check: expected {args.expect}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
