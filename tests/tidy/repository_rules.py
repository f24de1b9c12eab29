#!/usr/bin/env python3
"""Rules that no compiler checks: file and line length, a README per folder, test names.

usage: repository_rules.py ROOT
"""
import pathlib
import re
import subprocess
import sys

LINES_MAX = 500
COLUMNS_MAX = 120


def tracked(root):
    out = subprocess.run(["git", "-C", str(root), "ls-files"], capture_output=True, text=True)
    if out.returncode == 0 and out.stdout:
        return [root / line for line in out.stdout.splitlines() if (root / line).is_file()]
    # No checkout: everything but build folders and hidden ones.
    return [p for p in root.rglob("*")
            if p.is_file() and not p.relative_to(root).parts[0].startswith(("build", "."))]


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    found = []
    sources = [p for p in tracked(root) if p.suffix in (".hpp", ".cpp")]
    for path in sources:
        name = path.relative_to(root)
        lines = path.read_text().splitlines()
        if len(lines) > LINES_MAX and name.parts[0] != "tests":
            found.append(f"{name}: {len(lines)} lines, at most {LINES_MAX}: a second noun lives in it")
        for number, line in enumerate(lines, 1):
            if len(line) > COLUMNS_MAX:
                found.append(f"{name}:{number}: {len(line)} columns, at most {COLUMNS_MAX}")
            if re.match(r"TEST(_F|_P)?\(\w*_\w*,|TEST(_F|_P)?\(\w+, \w*_\w*\)", line):
                found.append(f"{name}:{number}: test names have no underscores")
            if path.suffix == ".hpp" and number == 1 and not line.startswith("//"):
                found.append(f"{name}: a header starts with what it is for")
    folders = [p for p in sorted((root / "src").iterdir()) if p.is_dir()]
    folders += [root / p for p in ("include/strata", "kernels", "tests", "bench", "scripts", "configs", "docs")]
    for folder in folders:
        if not (folder / "README.md").exists():
            found.append(f"{folder.relative_to(root)}: no README.md")
    print(f"{len(sources)} files, {len(found)} findings")
    print("\n".join(found))
    sys.exit(1 if found or len(sources) < 50 else 0)


main()
