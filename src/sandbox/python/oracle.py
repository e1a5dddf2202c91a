"""The oracle: runs a benchmark's tests against the program at the other end of the wire and is the only
one that speaks the verdict, on a descriptor the program never had.

Reads one JSON job from standard input, writes one line of JSON:
    {"status": "pass" | "fail" | "timeout", "detail": text, …}
A job has "kind":
    tests      "code": the program; "names": trusted text that defines what the tests may use beside it
               (HumanEval's prompt); "tests": text to run; "canonical": a solution, whose definitions
               are names that the program answers for, though they may be builtins';
               "setup": trusted text run inside the program; "seconds": for all of it
    reference  "task", "code" (canonical), "entry", "base_input", "plus_input" (JSON text, which keeps
               what other parsers lose): answers "expected", for jobs of the next kind; outputs too big
               to be kept are left out, and made again there
    evalplus   the same, "code" the program, "canonical", "expected", "tolerance", "extract": whether
               "code" is text to take the code from
Names that tests use and nobody trusted defines are the program's, and every value of the program's is
rebuilt here from plain data, so no object of it takes part in a comparison.
"""
import builtins
import copy
import importlib
import sys

# EvalPlus's limits, seconds: for one input, and for all.
LEAST_SECONDS, TIMES_REFERENCE, MOST_SECONDS = 4.0, 4.0, 60.0
# JSON of an expected output; above it, it is made again.
MOST_KEPT = 1 << 18
# Modules that tests name without importing them, as if the program had.
MODULES = frozenset(("cmath", "collections", "heapq", "itertools", "math", "re", "sys"))


class Failed(Exception):
    """The program does not pass; the text says why."""


def exception_class(name):
    kind = getattr(builtins, name, None) if type(name) is str else None
    return kind if isinstance(kind, type) and issubclass(kind, Exception) else RuntimeError


class Remote:
    """A value of the program's that cannot cross. Equal to nothing but itself."""

    def __init__(self, player, target):
        self._player, self._target = player, target

    def __call__(self, *arguments, **keywords):
        return self._player.call(self._target, arguments, keywords)

    def __iter__(self):
        return iter(self._player.ask({"op": "iterate", "of": self._target}))

    def __bool__(self):
        return self._player.ask({"op": "bool", "of": self._target}) is True


class Player:
    """The program, as the tests see it."""

    def __init__(self):
        self.wire = Wire(3, 4)
        self.number = 0
        self.deadline = None
        self.exact_type = True
        self.changed = False  # bring back what a call did to its arguments

    def exchange(self, message):
        self.number += 1
        message["n"] = self.number
        if not self.wire.silent():
            raise Protocol("an answer before the question")
        try:
            self.wire.send(message, self.deadline)
            answer = self.wire.receive(self.deadline)
        except EOFError:
            raise Failed("the program ended") from None
        if type(answer.get("n")) is not int or answer["n"] != self.number:
            raise Protocol("an answer to another question")
        if "error" in answer:
            text = answer.get("text")
            raise exception_class(answer["error"])(text if type(text) is str else "")
        if "ok" not in answer:
            raise Protocol("an answer without a value")
        return answer

    def value(self, node):
        return Decoder(self.remote).decode(node)

    def remote(self, number):
        if type(number) is not int:
            raise Protocol("a reference that is none")
        return Remote(self, number)

    def ask(self, message):
        return self.value(self.exchange(message)["ok"])

    def load(self, code):
        self.exchange({"op": "load", "code": code})

    def call(self, target, arguments, keywords):
        def refer(value):
            if isinstance(value, Remote):
                return value._target
            raise TypeError("a %s cannot be sent to the program" % type(value).__name__)

        answer = self.exchange(
            {
                "op": "call",
                "of": target,
                "arguments": encode(list(arguments), refer),
                "keywords": encode(keywords, refer),
                "changed": self.changed,
            }
        )
        self.exact_type = answer.get("exact") is True
        changed = answer.get("changed", [])
        for pair in changed if type(changed) is list else ():
            self.take_back(arguments, pair)
        return self.value(answer["ok"])

    def take_back(self, arguments, pair):
        if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not int:
            raise Protocol("a change that is none")
        if not 0 <= pair[0] < len(arguments):
            raise Protocol("a change of no argument")
        mine, after = arguments[pair[0]], self.value(pair[1])
        if type(mine) is not type(after) or type(mine) not in (list, dict, set, bytearray):
            raise Protocol("a change of another type")
        mine.clear()
        (mine.extend if type(mine) in (list, bytearray) else mine.update)(after)


def all_names(code):
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            names |= all_names(constant)
    return names


def defined_names(text):
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in ast.parse(text).body if isinstance(node, kinds)}


def run_tests(job):
    player = Player()
    player.changed = True
    player.deadline = time.monotonic() + job["seconds"]
    space = {"__name__": "tests"}
    if job["names"]:
        exec(compile(job["names"], "names", "exec"), space)
    program = job["code"]
    if job["setup"]:
        program += "\n" + job["setup"]
    code = compile(job["tests"], "tests", "exec")
    asked = defined_names(job["canonical"])
    if job["names"]:
        asked &= {job["entry"]}
    try:
        player.load(program)
        for name in sorted(all_names(code)):
            if name in asked:
                space[name] = Remote(player, name)
            elif name not in space and not hasattr(builtins, name):
                if name in MODULES:
                    space[name] = importlib.import_module(name)
                    continue
                try:
                    value = player.ask({"op": "get", "name": name})
                except KeyError:
                    continue  # an attribute, or a name that the tests define themselves
                space[name] = Remote(player, name) if isinstance(value, Remote) else value
        exec(code, space)
        if not player.wire.silent():
            raise Protocol("an answer too many")
    except AssertionError as error:
        raise Failed("assertion: %s" % str(error)[:200]) from None
    return {}


def inputs_of(job):
    for part in ("base", "plus"):
        inputs = json.loads(job[part + "_input"])
        # Without extra inputs upstream passes them vacuously.
        yield part, typed_inputs(job["task"], inputs)


class Canonical:
    """The canonical solution, trusted: run right here."""

    def __init__(self, job, code):
        self.entry = job["entry"]
        space = {"__name__": "reference"}
        exec(compile(code, "canonical", "exec"), space)
        self.function = space[self.entry]

    def output(self, arguments):
        output = self.function(*copy.deepcopy(arguments))
        return output is not None if self.entry in NOT_NONE else output


def reference(job):
    canonical = Canonical(job, job["code"])
    expected = {}
    for part, inputs in inputs_of(job):
        expected[part], expected[part + "_seconds"] = [], []
        for arguments in inputs:
            begin = time.monotonic()
            output = canonical.output(arguments)
            # To cross counts as time too: the program's outputs do.
            node = None if hash_of(output) else encode(output, not_plain)
            expected[part + "_seconds"].append(time.monotonic() - begin)
            kept = node is not None or output is None
            # As text: the infinities in it are no JSON to others.
            text = json.dumps(node) if kept else ""
            expected[part].append(text if len(text) <= MOST_KEPT else "")
    return {"expected": expected}


def not_plain(value):
    raise TypeError("the canonical answer is a %s, which cannot be compared" % type(value).__name__)


def run_evalplus(job):
    code = sanitize(job["code"], job["entry"]) if job["extract"] else job["code"]
    result = {"code": code, "base": "fail", "plus": "fail"}
    expected = job["expected"]
    # A program must pass the base inputs for the extra ones to count.
    for part, inputs in inputs_of(job):
        result[part], result["detail"] = one_part(
            job, code, inputs, expected[part], expected[part + "_seconds"])
        if result[part] != "pass":
            break
    result["status"] = result["plus"] if result["base"] == "pass" else result["base"]
    return result


def one_part(job, code, inputs, outputs, seconds):
    limits = [max(LEAST_SECONDS, TIMES_REFERENCE * s) for s in seconds]
    end = time.monotonic() + min(MOST_SECONDS, sum(limits)) + 1
    player = PLAYERS[0] if PLAYERS else Player()
    PLAYERS[:] = [player]
    comparison = Comparison(
        "mbpp" if job["task"].startswith("Mbpp/") else "humaneval", job["entry"], job["tolerance"])
    player.deadline = end
    canonical = None
    try:
        player.load(code)
        for i, arguments in enumerate(inputs):
            player.deadline = min(end, time.monotonic() + limits[i])
            out = player.call(job["entry"], arguments, {})
            # What happens here is not the program's time.
            answered = time.monotonic()
            if outputs[i]:
                expected = Decoder(not_plain).decode(json.loads(outputs[i]))
            else:
                canonical = canonical or Canonical(job, job["canonical"])
                expected = canonical.output(arguments)
            player.deadline = end = end + time.monotonic() - answered
            if isinstance(out, Hash):
                same = out.text == hash_of(expected)
            else:
                same = comparison.passes(arguments, out, player.exact_type, expected)
            if not same:
                return "fail", "input %d: another output" % i
        if not player.wire.silent():
            raise Protocol("an answer too many")
    except Late:
        return "timeout", "time"
    except Exception as error:
        return "fail", explain(error)
    return "pass", ""


PLAYERS = []


def explain(error):
    if isinstance(error, Failed):
        return str(error)
    return ("%s: %s" % (type(error).__name__, error))[:300]


def main():
    speak = sys.stdout
    sys.stdout = sys.stderr  # a test that prints
    job = json.load(sys.stdin)
    kinds = {"tests": run_tests, "reference": reference, "evalplus": run_evalplus}
    verdict = {"status": "pass", "detail": ""}
    try:
        verdict.update(kinds[job["kind"]](job))
    except Late:
        verdict.update(status="timeout", detail="time")
    except Exception as error:
        verdict.update(status="fail", detail=explain(error))
    # Text of the program's: what is no text elsewhere goes.
    verdict["detail"] = verdict["detail"].encode("utf-8", "replace").decode()
    json.dump(verdict, speak)
    speak.write("\n")
    speak.flush()


main()
