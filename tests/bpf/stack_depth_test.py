#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""No chain of BPF functions needs more stack than Linux 6.1 gives: 512 bytes together, each frame rounded up to 32.

Later verifiers round less and give each function more, so that a kernel which the tests run on may take what 6.1 refuses
("combined stack size of 3 calls is 544. Too large"). What a function may use is read from its instructions (RFC 9669).

    tests/bpf/stack_depth_test.py [-v] FILE.bpf.o ...
"""
import struct
import sys
from pathlib import Path

STACK_MAX = 512
FRAME_UNIT = 32
R10 = 10
CLASS_LDX, CLASS_ST, CLASS_STX, CLASS_ALU64 = 1, 2, 3, 7
MOV_X, ADD_K, CALL, LD_IMM64 = 0xBF, 0x07, 0x85, 0x18
PSEUDO_CALL = 1
SHT_SYMTAB, SHT_REL, SHF_EXECINSTR, STT_FUNC, STT_SECTION = 2, 9, 4, 2, 3


class Function:
    def __init__(self, name, section, start, size):
        self.name, self.section, self.start, self.size = name, section, start, size
        self.stack = 0
        self.calls = set()


class Object:
    """The functions of one relocatable object for the little-endian BPF machine."""

    def __init__(self, path):
        self.data = Path(path).read_bytes()
        header = struct.unpack_from("<16sHHIQQQIHHHHHH", self.data)
        assert header[0][:5] == b"\x7fELF\x02", f"{path} is no 64-bit ELF object"
        offset, entry, count, names = header[6], header[11], header[12], header[13]
        self.sections = [struct.unpack_from("<IIQQQQIIQQ", self.data, offset + i * entry) for i in range(count)]
        self.names = self.content(names)
        self.functions = {}
        symbols, strings = self.symbols()
        for name, info, section, value, size in symbols:
            if info & 15 == STT_FUNC:
                self.functions[section, value] = Function(self.text(strings, name), section, value, size)
        relocations = self.relocations()
        for function in self.functions.values():
            self.read(function, symbols, relocations)

    def content(self, index):
        section = self.sections[index]
        return self.data[section[4]:section[4] + section[5]]

    @staticmethod
    def text(strings, at):
        return strings[at:strings.index(b"\0", at)].decode()

    def symbols(self):
        table, = [i for i, s in enumerate(self.sections) if s[1] == SHT_SYMTAB]
        return ([(name, info, section, value, size)
                 for name, info, _, section, value, size in struct.iter_unpack("<IBBHQQ", self.content(table))],
                self.content(self.sections[table][6]))

    def relocations(self):
        """{(section, offset): index of the symbol}."""
        out = {}
        for i, section in enumerate(self.sections):
            if section[1] == SHT_REL:
                for at, info in struct.iter_unpack("<QQ", self.content(i)):
                    out[section[7], at] = info >> 32
        return out

    def read(self, function, symbols, relocations):
        code = self.content(function.section)
        pointers = {R10: 0}  # registers that were derived from the frame pointer, by straight code
        at = function.start
        while at < function.start + function.size:
            opcode, registers, offset, immediate = struct.unpack_from("<BBhi", code, at)
            to, source = registers & 15, registers >> 4
            kind = opcode & 7
            base = source if kind == CLASS_LDX else to if kind in (CLASS_ST, CLASS_STX) else None
            if base in pointers:
                function.stack = max(function.stack, -(pointers[base] + offset))
            if opcode == MOV_X and source in pointers and to != R10:
                pointers[to] = pointers[source]
                function.stack = max(function.stack, -pointers[to])
            elif opcode == ADD_K and to in pointers:
                pointers[to] += immediate
                function.stack = max(function.stack, -pointers[to])
            elif kind not in (CLASS_ST, CLASS_STX) and to != R10:
                pointers.pop(to, None)
            if opcode == CALL and source == PSEUDO_CALL:
                function.calls.add(self.callee(function, at, immediate, symbols, relocations))
            at += 16 if opcode == LD_IMM64 else 8

    def callee(self, function, at, immediate, symbols, relocations):
        symbol = relocations.get((function.section, at))
        if symbol is None:
            key = function.section, at + 8 * (immediate + 1)
        else:
            _, info, section, value, _ = symbols[symbol]
            key = section, value + (8 * (immediate + 1) if info & 15 == STT_SECTION else 0)
        return self.functions[key]

    def programs(self):
        called = {callee for function in self.functions.values() for callee in function.calls}
        return [f for f in self.functions.values() if f not in called]


def frame(function):
    return -(-max(function.stack, 1) // FRAME_UNIT) * FRAME_UNIT


def deepest(function):
    """(bytes, the functions of the chain). There is no recursion in BPF."""
    below = max((deepest(callee) for callee in function.calls), key=lambda chain: chain[0], default=(0, []))
    return frame(function) + below[0], [function] + below[1]


def main():
    verbose = "-v" in sys.argv[1:]
    paths = [a for a in sys.argv[1:] if a != "-v"]
    if not paths:
        sys.exit(__doc__)
    seen = refused = 0
    for path in paths:
        for program in Object(path).programs():
            seen += 1
            size, chain = deepest(program)
            told = f"{path}: {size} bytes: " + " > ".join(f"{f.name} {f.stack}" for f in chain)
            if size > STACK_MAX:
                refused += 1
                print(f"{told}: more than the {STACK_MAX} that Linux 6.1 gives")
            elif verbose:
                print(told)
    print(f"{seen} programs, {refused} with too deep a stack")
    sys.exit(1 if refused or not seen else 0)


if __name__ == "__main__":
    main()
