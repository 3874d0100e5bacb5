# SPDX-License-Identifier: Apache-2.0
"""Results as a table for people, as the JSON list of --json, and as the document of raw rows."""
import json
import os
import textwrap

from . import stats


def rounded(value):
    """Four significant digits and more: what a measurement is worth."""
    return round(value, max(0, 3 - int(f"{value:e}".partition("e")[2]))) if value else value


def shown(value):
    """For people: 12,350 and 83.75."""
    return f"{rounded(value):,}".removesuffix(".0")


def summaries(measured):
    return [(m, stats.summarize(m.paired(), m.row.better, m.row.goal, m.row.verdict)) for m in measured]


def as_list(measured):
    """What --json prints."""
    return [{"row": m.row.name, "ours": rounded(s.ours), "peer": rounded(s.peer), "unit": m.row.unit, "ratio": s.ratio,
             "goal": m.row.goal_text, "holds": s.holds} for m, s in summaries(measured)]


def as_document(about, measured):
    """The raw rows: everything needed to compute the list again."""
    rows = []
    for (m, s), line in zip(summaries(measured), as_list(measured)):
        rows.append(line | {
            "better": m.row.better, "verdict": m.row.verdict, "peer_name": m.peer_name, "note": m.row.note,
            "interval": [s.interval.low, s.interval.high],
            "coverage": round(s.interval.coverage, 3), "samples": m.samples})
    return about | {"rows": rows}


def _notes(rows):
    """What is compared, once for all rows of which the same is said. rows: (name, peer, better, by, note); by: what holds."""
    names = {}
    for name, *said in rows:
        names.setdefault(tuple(said), []).append(name)
    return [f"{'; '.join(of)}: beside {peer}, {better} is better{by}. {note}".rstrip()
            for (peer, better, by, note), of in names.items()]


def _by(goal, verdict):
    return ", the goal holds when the interval reaches it" if goal is not None and verdict == "interval" else ""


def as_table(measured):
    """Lines for people."""
    header = ("row", "ours", "peer", "unit", "ours/peer", "interval", "rounds", "goal", "holds")
    lines = [header]
    notes = []
    for m, s in summaries(measured):
        interval = f"{stats.shown(s.interval.low)}..{stats.shown(s.interval.high)} ({100 * s.interval.coverage:.1f} %)"
        holds = {None: "-", True: "yes", False: "no"}[s.holds]
        lines.append((m.row.name, shown(s.ours), shown(s.peer), m.row.unit, stats.shown(s.ratio), interval,
                      str(len(m.samples)), m.row.goal_text or "-", holds))
        notes.append((m.row.name, m.peer_name, m.row.better, _by(m.row.goal, m.row.verdict), m.row.note))
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    numbers = {1, 2, 4, 6}
    table = ["  ".join(cell.rjust(widths[i]) if i in numbers else cell.ljust(widths[i])
                       for i, cell in enumerate(line)).rstrip() for line in lines]
    said = ("ours and peer are medians of paired rounds; ours/peer is the median of the rounds' own ratios, and the interval "
            "encloses its true value with the probability given.")
    return [*table, "", said, *(f"  {line}" for line in _notes(notes))]


def as_markdown(document):
    """A section for RESULTS.md, from the raw document: the machine, the rows, every round."""
    about = document["machine"]
    kind = "virtual" if about["virtual"] else "real"
    lines = [
        f"## {document['bench']}", "",
        f"`{document['command']}`, {document['began']}, revision {document['revision']}. {about['cpus']} CPUs ({about['cpu']}, "
        f"{kind}), {about['memory_mib']} MiB, {about['system']}, kernel {about['kernel']}; load {document['load_before']} before, "
        f"{document['load_after']} after, {document['seconds']:.0f} s.", "",
        "| row | ours | peer | unit | ours/peer | interval | rounds | goal | holds |", "|---|---|---|---|---|---|---|---|---|"]
    for row in document["rows"]:
        holds = {None: "-", True: "yes", False: "no"}[row["holds"]]
        low, high = row["interval"]
        lines.append(f"| {row['row']} | {shown(row['ours'])} | {shown(row['peer'])} | {row['unit']} | "
                     f"**{stats.shown(row['ratio'])}** | "
                     f"{stats.shown(low)} to {stats.shown(high)} ({100 * row['coverage']:.1f} %) | {len(row['samples'])} | "
                     f"{row['goal'] or '-'} | {holds} |")
    lines.append("")
    lines += (f"- {line}" for line in _notes((r["row"], r["peer_name"], r["better"], _by(r["goal"], r["verdict"]), r["note"])
                                      for r in document["rows"]))
    lines += ["", "Each round, ours/peer:", "", "```"]
    for row in document["rows"]:
        values = [f"{rounded(s['ours']):g}/{rounded(s['peer']):g}" for s in row["samples"]]
        lines += textwrap.wrap(f"{row['row']} ({row['unit']}): {'  '.join(values)}", 132, subsequent_indent="    ",
                               break_on_hyphens=False)
    return "\n".join([*lines, "```"])


def save(path, document):
    """Whole or not at all."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    partial = f"{path}.part"
    try:
        with open(partial, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.write("\n")
        os.replace(partial, path)
    except BaseException:
        if os.path.exists(partial):
            os.unlink(partial)
        raise
