#!/usr/bin/env python3
"""Includes point down the data flow only. Fails with one line per include that does not.

usage: include_direction.py ROOT [--self-test]
"""
import pathlib
import re
import sys

# module -> modules that it may include besides itself. kernels includes nothing of the project.
ALLOWED = {
    "base": set(),
    "formats": {"base"},
    "kernels": set(),
    "io": {"base"},
    "memory": {"base"},
    "device": {"base", "kernels", "memory"},
    "tiers": {"base", "formats", "io", "memory", "device"},
    "optim": {"base", "kernels"},
    "prefetch": {"base", "tiers"},
    "zero": {"base", "formats", "kernels", "device", "memory", "tiers", "prefetch", "optim"},
    "model": {"base", "formats", "zero"},
    "config": {"base"},
    "engine": {"base", "formats", "config", "kernels", "device", "io", "memory", "tiers", "optim", "prefetch", "zero",
               "model"},
    "cli": {"base", "formats", "config", "engine", "io", "zero", "tiers", "kernels", "model", "optim"},
}
TORCH = re.compile(r'^\s*#\s*include\s*[<"](torch|ATen|c10)/')
TORCH_MODULES = {"zero", "model", "engine"}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')


def violations(module, name, text):
    for number, line in enumerate(text.splitlines(), 1):
        if TORCH.match(line) and module not in TORCH_MODULES:
            yield f"{name}:{number}: torch stops at zero: {line.strip()}"
        found = INCLUDE.match(line)
        if not found or "/" not in found.group(1):
            continue
        target = found.group(1).split("/")[0]
        if target == "strata":
            if module == "kernels":
                yield f"{name}:{number}: kernels include nothing of the project"
        elif target in ALLOWED and target != module and target not in ALLOWED[module]:
            yield f"{name}:{number}: {module} may not include {target}"


def modules_of(root):
    for folder in sorted((root / "src").iterdir()):
        if folder.is_dir():
            yield folder.name, folder
    yield "kernels", root / "kernels"


def main():
    root = pathlib.Path(sys.argv[1])
    if "--self-test" in sys.argv:
        bad = list(violations("io", "x.cpp", '#include "tiers/budget.hpp"\n#include <ATen/ATen.h>\n'))
        good = list(violations("tiers", "x.cpp", '#include "io/engine.hpp"\n#include <vector>\n'))
        sys.exit(0 if len(bad) == 2 and not good else 1)
    count, found = 0, []
    for module, folder in modules_of(root):
        if module not in ALLOWED:
            found.append(f"{folder}: a module that {__file__} does not know")
            continue
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".hpp", ".cpp", ".in"):
                count += 1
                found += violations(module, path.relative_to(root), path.read_text())
    for path in sorted((root / "include").rglob("*.hpp")):
        count += 1
        for line in path.read_text().splitlines():
            target = INCLUDE.match(line)
            if target and not target.group(1).startswith("strata/"):
                found.append(f"{path.relative_to(root)}: public headers include std and each other: {line.strip()}")
    print(f"{count} files, {len(found)} violations")
    print("\n".join(map(str, found)))
    sys.exit(1 if found or count < 50 else 0)


main()
