# SPDX-License-Identifier: Apache-2.0
"""Which sources can be compiled as one: nearly all of a source's time goes into what its headers instantiate.

Sources that define the same name at file scope do not compile as one; a scan of their text keeps them apart. It is a
guess made from formatted text: what it misses, a compiler says.

  python3 together.py LINES_MAX FILE...    a group's number for each file, one a line (scripts/cmake/ShoalTargets.cmake)
"""
import math
import re
import sys
from pathlib import Path


def file_scope_names(text):
    """Names that no other file may see: of unnamed namespaces, static functions and macros. Not aliases of namespaces:
    the same one twice is fine."""
    names = set()
    unnamed = False
    for line in text.split("\n"):
        if line.startswith("namespace {"):
            unnamed = True
        elif re.match(r"\}\s*// namespace$", line):
            unnamed = False
        elif (unnamed or line.startswith(("static ", "#define"))) and not re.match(r"namespace \w+ =", line):
            match = re.match(r"(?:#define|struct|class|enum class|enum|using|concept)\s+(\w+)", line) or (
                re.match(r"[A-Za-z].*?(\w+)\s*[(=\[{;]", line))
            if match:
                names.add(match.group(1))
    return frozenset(names)


def groups(sources, lines_max, lines, names):
    """Sources in path order, cut into equal parts; one whose names are taken goes elsewhere. lines and names are functions."""
    total = sum(lines(s) for s in sources)
    bins = [[] for _ in range(math.ceil(max(total, 1) / lines_max))]
    before = 0
    for source in sources:
        own = before * len(bins) // max(total, 1)  # folders stay together, and their headers
        before += lines(source)
        order = sorted(range(len(bins)), key=lambda i: (i != own, sum(lines(s) for s in bins[i]), i))
        free = [i for i in order if not any(names(s) & names(source) for s in bins[i])]
        if free:
            bins[free[0]].append(source)
        else:
            bins.append([source])
    return [members for members in bins if members]


def main(lines_max, *paths):
    texts = {path: Path(path).read_text(encoding="utf-8") for path in paths}
    names = {path: file_scope_names(text) for path, text in texts.items()}
    parts = groups(sorted(paths), int(lines_max), lambda p: texts[p].count("\n"), names.get)
    number = {path: index for index, part in enumerate(parts) for path in part}
    for path in paths:
        print(number[path])


if __name__ == "__main__":
    main(*sys.argv[1:])
