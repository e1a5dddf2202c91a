"""Holds the includes of src/ to the arrows declared in each room's CMakeLists.txt.

    python3 tests/check_layers.py src

A room may include its own headers, those of the rooms it USES, and those that they may use.
"""
import pathlib
import re
import sys


def declared_rooms(src):
    rooms = {}
    for lists in src.glob("*/CMakeLists.txt"):
        call = re.search(r"narrow_room\((\w+)([^)]*)\)", lists.read_text())
        if call:
            uses = re.search(r"USES([\w\s]*?)(?:LINK|$)", call.group(2), re.S)
            rooms[call.group(1)] = set(uses.group(1).split()) if uses else set()
    return rooms


def closure(rooms, room):
    seen, todo = set(), [room]
    while todo:
        for used in rooms[todo.pop()]:
            if used not in seen:
                seen.add(used)
                todo.append(used)
    return seen


def main():
    src = pathlib.Path(sys.argv[1])
    rooms = declared_rooms(src)
    broken = 0
    for room in sorted(rooms):
        allowed = closure(rooms, room) | {room}
        for path in sorted((src / room).rglob("*")):
            if path.suffix not in {".h", ".cc", ".cu", ".cuh"}:
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                include = re.match(r'#include "([^"/]+)/', line)
                if include and include.group(1) not in allowed:
                    print(f"{path}:{number}: room '{room}' may not include '{include.group(1)}'")
                    broken += 1
    print(f"{len(rooms)} rooms, {broken} includes against the arrows")
    return 1 if broken or not rooms else 0


if __name__ == "__main__":
    sys.exit(main())
