# SPDX-License-Identifier: Apache-2.0
"""clang-tidy over many sources, dozens at a time.

Nearly all of a run's time goes into the system's headers (Asio, Beast, JSON, spdlog), which every source parses and
every check walks again. So sources with the same flags are included by one generated file, a unity, and their headers
are read once a unity. To clang-tidy such sources are headers: HeaderFilterRegex of .clang-tidy has to let them through, and
a finding comes with its own file and line.

  sources --same flags--> groups --bounded lines, no name twice--> unities --clang-tidy--> findings
                                                                      |
                                              does not compile: split in two, until it does or is one source

What does not compile as one (together.py) is kept apart, and what that misses is split off. What a source's findings hang
on (itself, every project file it includes, flags, configuration, tool) is hashed; a source that was clean under the same
hash is not checked again.
"""

import hashlib
import json
import math
import os
import re
import shlex
import subprocess
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from . import together

TOOL = "clang-tidy-19"
UNITY_LINES_MAX = 14000  # Some 30 s of work: enough to share the headers' cost, and there are several for the cores.
OUTPUT_TAIL = 2000  # Characters of a run that failed without a finding.
STAMPS = "stamps.json"
COMPILE_ERROR = "clang-diagnostic-error"
# Warnings are the compiler's business, and g++'s names for them are not clang's.
EXTRA_FLAGS = ["-Wno-ignored-gch", "-ferror-limit=0"]

UNIMPORTANT = re.compile(r"-W|-g\d?$|-f(function|data)-sections$|--param=")
MEMBER = re.compile(r'^#include "(/[^"]+\.cpp)"$', re.MULTILINE)
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.MULTILINE)
FINDING = re.compile(r"^(?P<path>/[^:]+):(?P<line>\d+):(?P<column>\d+): (?:error|warning|fatal error): (?P<text>.*)$")


class ClangTidyError(Exception):
    """clang-tidy cannot be run at all; says what to do."""


@dataclass(frozen=True)
class Source:
    path: Path
    flags: tuple
    folder: str  # where the compiler runs
    lines: int
    names: frozenset  # what it defines at file scope and no other file may see
    reach: frozenset  # itself and every project file that it includes, and those include
    stamp: str


@dataclass
class Unity:
    name: str
    sources: list


@dataclass
class Outcome:
    unity: Unity
    findings: list = field(default_factory=list)  # (path, line, column, text)
    broken: list = field(default_factory=list)  # sources that keep it from compiling, [] if it compiles
    failure: str = ""  # why there is no result


@dataclass
class Report:
    """findings are texts `path:line: what [check]`, sorted; the rest is what was done for them."""

    findings: list
    checked: int
    unchanged: int
    runs: int
    seconds: float


def check(root, build, sources, jobs, say=lambda text: None):
    """Checks the .cpp files `sources` with the flags of build/compile_commands.json and the checks of root/.clang-tidy."""
    started = time.monotonic()
    root, build = Path(root).resolve(), Path(build).resolve()
    work = build / "tidy"
    work.mkdir(parents=True, exist_ok=True)
    known, strangers = _load(root, build, sources)
    stamps = _read_stamps(work / STAMPS)
    stale = [s for s in known if stamps.get(_relative(root, s.path)) != s.stamp]
    for path in work.glob("*.cpp"):
        path.unlink()
    outcomes = _run_all(root, work, _unities(stale), jobs, say)
    findings = {f for o in outcomes for f in o.findings}
    texts = {f"{_relative(root, path)}:{line}: {text}" for path, line, _, text in findings}
    texts |= {f"{_relative(root, o.unity.sources[0].path)}:1: {o.failure}" for o in outcomes if o.failure}
    texts |= {f"{_relative(root, p)}:1: not in {build}/compile_commands.json: configure again" for p in strangers}
    suspect = {path for path, _, _, _ in findings}
    clean = [s for o in outcomes if not o.failure for s in o.unity.sources if not s.reach & suspect]
    names = {_relative(root, s.path) for s in known}
    kept = {name: stamp for name, stamp in stamps.items() if name in names}
    _write_stamps(work / STAMPS, kept | {_relative(root, s.path): s.stamp for s in clean})
    return Report(sorted(texts, key=_by_place), len(stale), len(known) - len(stale), len(outcomes),
                  time.monotonic() - started)


def _by_place(text):
    path, line, rest = text.split(":", 2)
    return path, int(line), rest


def _relative(root, path):
    return os.path.relpath(path, root) if Path(path).is_relative_to(root) else str(path)


# --- Sources ------------------------------------------------------------------------------------------


def _load(root, build, paths):
    """The sources that the build knows, and the paths that it does not."""
    commands = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = Path(os.path.join(entry["directory"], entry["file"])).resolve()
        # A unity of the build stands for the sources that it includes.
        members = [Path(p) for p in MEMBER.findall(path.read_text())] if path.parent.name == "Unity" else [path]
        for member in members:
            commands.setdefault(member, (_flags(entry), entry["directory"]))
    try:
        tool = subprocess.run([TOOL, "--version"], check=True, capture_output=True, text=True).stdout
    except OSError as error:
        raise ClangTidyError(f"{TOOL} cannot be run ({error.strerror}): scripts/install-deps installs it") from error
    about_all = [tool, (root / ".clang-tidy").read_text(), Path(__file__).read_text()]
    files = _Files(root, build)
    known, strangers = [], []
    for path in sorted(Path(p).resolve() for p in paths):
        if path not in commands:
            strangers.append(path)
            continue
        flags, folder = commands[path]
        reach = files.reach(path, flags)
        stamp = hashlib.sha256("\0".join([*about_all, *flags, *(f"{p} {files.digest(p)}" for p in sorted(reach))]).encode())
        text = files.text(path)
        known.append(Source(path, flags, folder, text.count("\n"), together.file_scope_names(text), reach, stamp.hexdigest()))
    return known, strangers


def _flags(entry):
    """What of a compile command says what the source means: no names of files, no warnings, nothing about how it is made."""
    words = list(entry.get("arguments") or shlex.split(entry["command"]))
    while words and not words[0].startswith("-"):  # the compiler, and what launches it
        words.pop(0)
    flags = []
    while words:
        word = words.pop(0)
        if word == "-o":
            words.pop(0)
        elif word not in ("-c", entry["file"]) and not UNIMPORTANT.match(word):
            flags.append(word)
    return tuple(flags)


class _Files:
    """Texts, digests and includes of project files and of what the build generates; each is read once."""

    def __init__(self, root, build):
        self.inside = (str(root) + os.sep, str(build) + os.sep)
        self.texts = {}
        self.digests = {}

    def text(self, path):
        if path not in self.texts:
            self.texts[path] = Path(path).read_text(encoding="utf-8", errors="replace")
        return self.texts[path]

    def digest(self, path):
        if path not in self.digests:
            self.digests[path] = hashlib.sha256(self.text(path).encode()).hexdigest()
        return self.digests[path]

    def reach(self, path, flags):
        folders, forced = [], []
        for index, flag in enumerate(flags):
            following = flags[index + 1] if index + 1 < len(flags) else ""
            if flag in ("-I", "-isystem", "-iquote"):
                folders.append(following)
            elif flag.startswith("-I"):
                folders.append(flag[2:])
            elif flag == "-include":
                forced.append(Path(following).resolve())
        found, todo = set(), [path, *(p for p in forced if p.is_file())]
        while todo:
            current = todo.pop()
            if current in found:
                continue
            found.add(current)
            for name in INCLUDE.findall(self.text(current)):
                todo.extend(self._resolve(name, current.parent, folders))
        return frozenset(found)

    def _resolve(self, name, beside, folders):
        for folder in (beside, *folders):
            candidate = os.path.realpath(os.path.join(folder, name))
            if candidate.startswith(self.inside) and os.path.isfile(candidate):
                return [Path(candidate)]
        return []


# --- Unities ------------------------------------------------------------------------------------------


def _unities(sources):
    """Sources of the same flags in path order, cut into equal parts; one whose names are taken goes elsewhere."""
    same = {}
    for source in sources:
        same.setdefault((source.flags, source.folder), []).append(source)
    return [Unity(f"{number}-{index}", members)
            for number, group in enumerate(same.values(), 1)
            for index, members in enumerate(together.groups(group, UNITY_LINES_MAX, lambda s: s.lines, lambda s: s.names), 1)]


def _run_all(root, work, unities, jobs, say):
    """Longest first, so that no core waits at the end for one that began late."""
    outcomes = []
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(_run, root, work, u, say) for u in sorted(unities, key=lambda u: -sum(s.lines for s in u.sources))}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                halves = _split(outcome)
                if halves:
                    why = outcome.failure or "does not compile as one: " + next(
                        f"{_relative(root, f[0])}:{f[1]}: {f[3]}" for f in outcome.findings if f[3].endswith(COMPILE_ERROR + "]"))
                    say(f"unity {outcome.unity.name}: split in two: {why}")
                    running |= {pool.submit(_run, root, work, half, say) for half in halves}
                else:
                    outcomes.append(outcome)
    return outcomes


def _run(root, work, unity, say):
    started = time.monotonic()
    path = work / f"{unity.name}.cpp"
    path.write_text("".join(f'#include "{s.path}"\n' for s in unity.sources))
    flags, folder = unity.sources[0].flags, unity.sources[0].folder
    done = subprocess.run([TOOL, "--quiet", f"--config-file={root}/.clang-tidy", str(path), "--", *flags, *EXTRA_FLAGS],
                          cwd=folder, capture_output=True, text=True)
    outcome = _read(unity, done)
    say(f"unity {unity.name}: {len(unity.sources)} sources, {sum(s.lines for s in unity.sources)} lines, "
        f"{time.monotonic() - started:.1f} s: {_relative(root, unity.sources[0].path)} ...")
    return outcome


def _read(unity, done):
    outcome = Outcome(unity)
    errors = []
    for line in done.stdout.split("\n"):
        match = FINDING.match(line)
        if match:
            path = Path(match["path"]).resolve()
            text = match["text"].replace(",-warnings-as-errors]", "]")
            outcome.findings.append((path, int(match["line"]), int(match["column"]), text))
            if text.endswith(f"[{COMPILE_ERROR}]"):
                errors.append(path)
    outcome.broken = [s for s in unity.sources if s.path in errors] or (unity.sources if errors else [])
    if done.returncode != 0 and not outcome.findings:
        outcome.failure = f"{TOOL} ended with {done.returncode}: {(done.stdout + done.stderr)[-OUTPUT_TAIL:].strip()}"
    return outcome


def _split(outcome):
    """Two unities in place of one that does not compile, so that each is smaller; none for a single source."""
    sources = outcome.unity.sources
    if len(sources) == 1 or not (outcome.broken or outcome.failure):
        return []
    left = [s for s in sources if s not in outcome.broken]
    right = outcome.broken
    if not left or not right:
        left, right = sources[: len(sources) // 2], sources[len(sources) // 2:]
    return [Unity(f"{outcome.unity.name}a", left), Unity(f"{outcome.unity.name}b", right)]


# --- Stamps -------------------------------------------------------------------------------------------


def _read_stamps(path):
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def _write_stamps(path, stamps):
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(stamps, indent=1, sort_keys=True))
    os.replace(temporary, path)
