"""The program's side: loads generated code, answers calls. Knows arguments, never tests or results.

Whatever the code does to this process, it can only say other plain values or nothing.
"""


class NoInput:
    def __getattr__(self, name):
        raise OSError("there is no input")


def main():
    import itertools
    import sys

    wire = Wire(3, 4)
    objects = {}
    space = {}
    sys.stdin = NoInput()
    if sys.path and sys.path[0] == "":
        del sys.path[0]
    # Where Debian keeps numpy; nothing there unless it is installed.
    sys.path.append("/usr/lib/python3/dist-packages")

    def refer(value):
        number = len(objects)
        objects[number] = value
        return number

    def resolve(target):
        return space[target] if type(target) is str else objects[target]

    def do(message):
        operation = message["op"]
        if operation == "load":
            space.clear()
            objects.clear()
            space["__name__"] = "solution"
            exec(compile(message["code"], "solution", "exec"), space)
            return {"ok": None}
        if operation == "get":
            return {"ok": encode(space[message["name"]], refer)}
        decoder = Decoder(resolve)
        target = resolve(message["of"])
        if operation == "iterate":
            return {"ok": encode(list(itertools.islice(target, MOST_NODES)), refer)}
        if operation == "bool":
            return {"ok": bool(target)}
        arguments = decoder.decode(message["arguments"])
        keywords = decoder.decode(message["keywords"])
        result = target(*arguments, **keywords)
        big = hash_of(result)
        answer = {
            "ok": {"h": big} if big else encode(result, refer),
            "exact": type(result) in EXACT,
        }
        if message["changed"]:
            answer["changed"] = changed = []
            for i, before in enumerate(message["arguments"]):
                if type(arguments[i]) in (list, dict, set, bytearray):
                    after = encode(arguments[i], refer)
                    if after != before:
                        changed.append([i, after])
        return answer

    while True:
        try:
            message = wire.receive()
        except EOFError:
            return
        try:
            answer = do(message)
        except BaseException as error:
            kind = next(c for c in type(error).__mro__ if c.__module__ == "builtins")
            try:
                text = str(error)[:300]
            except BaseException:
                text = ""
            answer = {"error": kind.__name__, "text": text}
        answer["n"] = message["n"]
        try:
            wire.send(answer)
        except (ValueError, RecursionError) as error:
            wire.send({"n": message["n"], "error": "ValueError", "text": str(error)[:300]})


EXACT = ATOMS | {list, tuple, dict, set, frozenset, complex, bytes, bytearray}
main()
