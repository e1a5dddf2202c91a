"""Renders templates with jinja2 (PyPI, 3.1.6) as transformers sets it up for chat templates.

    python3 make_template.py > cases.jsonl

The first line holds the variables; each other one a template and its output, or the kind of error that
jinja2 raises. src/text/template_test.cc holds narrow's evaluator to them.
"""
import json

from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

VARIABLES = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "  Hi <there> & \"you\"\n"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "a1", "function": {"name": "add", "arguments": {"x": 1, "y": 2.5, "z": [True, None]}}}]},
        {"role": "tool", "content": "3.5"},
        {"role": "user", "content": [{"type": "text", "text": "Größe: 五"}, {"type": "image"}]},
    ],
    "tools": [{"type": "function", "function": {"name": "add", "parameters": {"required": ["x"], "a": 1}}}],
    "n": 7, "zero": 0, "minus": -7, "real": 2.5, "big": 1e20, "small": 1e-7, "yes": True, "no": False,
    "nothing": None, "empty": "", "word": "Straße naïve", "line": "a,b,,c", "spaced": "  one  two\tthree\n",
    "numbers": [3, 1, 2, 3, 1], "words": ["pear", "Apple", "fig"], "nested": {"a": {"b": [10, 20, 30]}},
    "pairs": [{"k": "x", "v": 2}, {"k": "y", "v": 1}, {"k": "x", "v": 3}], "bos_token": "<s>", "eos_token": "</s>",
    "quote": "it's", "both": "it's \"so\"",
}

EXPRESSIONS = """
n
real
big
small
1e3
12.0
yes
nothing
missing
none
true and none
word
numbers
words
nested
pairs[0]
quote
[quote]
[both]
["a\\nb"]
{"a": 1, "b": [2, none]}
(1, 2)
n + 3 * 2
(n + 3) * 2
n - -3
n / 2
8 / 2
n // 2
minus // 2
minus % 3
n % minus
real * 2
real + n
2 ** 10
2 ** -1
-2 ** 2
2 ** 3 ** 2
-n
+n
"a" + "b"
"a" ~ 1 ~ none ~ true
"ab" * 3
[1] + [2]
"a" + 1
1 + "a"
n / zero
n // zero
n % zero
n == 7.0
n != 7
n > 3 and n < 10
1 < 2 < 3
3 > 2 > 2
1 == 1 == true
"a" < "b"
"a" < 1
not n
not zero
not missing
n in numbers
3 in numbers
"ra" in word
"k" in pairs[0]
"x" not in "abc"
missing in [1]
empty or "fallback"
word and n
zero or none or ""
"a" if n else "b"
"a" if zero else "b"
"a" if zero
("a" if zero) is defined
messages[0].role
messages[0]["content"]
messages[-1]["role"]
messages[99]
messages[99].role
missing.attribute
missing["key"]
nested.a.b[1]
nested["a"]["b"][-1]
nested.missing
nested.missing is defined
word[0]
word[-1]
word[2:5]
word[::-1]
word[:-2]
numbers[1:]
numbers[:2]
numbers[::2]
numbers[-2:]
numbers[10:]
numbers[::-1]
messages[1:] | length
n is defined
missing is defined
missing is not defined
missing is undefined
nothing is none
nothing is not none
n is number
yes is number
n is integer
yes is integer
real is float
n is float
word is string
n is string
numbers is iterable
word is iterable
n is iterable
nested is mapping
numbers is mapping
numbers is sequence
word is sequence
yes is true
no is false
yes is boolean
n is odd
n is even
n is divisibleby 7
n is divisibleby(2)
n is eq 7
n is equalto 8
n is ne 7
n is gt 3
n is lt 3
n is ge 7
n is le 6
3 is in numbers
"a" is lower
"A" is upper
"a" is sameas "a"
none is sameas none
n is callable
messages | length
word | length
nested | length
n | length
word | upper
word | lower
"hello wORLD" | title
"hello wORLD" | capitalize
spaced | trim
"xxaxx" | trim("x")
"a-b-a" | replace("a", "c")
"a-b-a" | replace("a", "c", 1)
"ab" | replace("", "-")
numbers | join
numbers | join(", ")
pairs | join("-", attribute="k")
words | first
words | last
[] | first
numbers | sort
numbers | sort(reverse=true)
words | sort
words | sort(case_sensitive=true)
pairs | sort(attribute="v") | map(attribute="v") | list
numbers | unique | list
words | unique | list
numbers | reverse | list
word | reverse
numbers | list
word | list
nested | list
numbers | sum
numbers | min
numbers | max
words | max
numbers | map("string") | join("+")
words | map("upper") | list
pairs | map(attribute="k") | join
numbers | select("odd") | list
numbers | reject("odd") | list
numbers | select("gt", 1) | list
numbers | select("equalto", 3) | list
pairs | selectattr("k", "equalto", "x") | list | length
pairs | selectattr("v") | list | length
pairs | rejectattr("k", "eq", "x") | map(attribute="v") | list
messages | selectattr("tool_calls", "defined") | list | length
missing | default("d")
empty | default("d")
empty | default("d", true)
nothing | default("d")
n | d(3)
"12" | int
"12.7" | int
"abc" | int
"abc" | int(5)
2.9 | int
-2.9 | int
" 7 " | int
"1.5" | float
"x" | float
n | float
minus | abs
2.5 | round
3.5 | round
2.567 | round(2)
2.567 | round(1, "floor")
2.1 | round(0, "ceil")
n | string
nothing | string
"<b>" | e
"<b>" | safe
"a\\nb\\n\\nc" | indent
"a\\nb\\n\\nc" | indent(2, true)
nested | dictsort
{"b": 1, "a": 2} | dictsort
{"b": 1, "a": 2} | items | list
tools | tojson
tools | tojson(indent=2)
word | tojson
both | tojson
"</script>" | tojson
real | tojson
big | tojson
1.0 | tojson
none | tojson
[] | tojson(indent=2)
{} | tojson(indent=4)
messages[2].tool_calls[0].function.arguments | tojson
messages[2].tool_calls | tojson(indent=1)
"%s-%d" | format("a", 3)
"a b c" | wordcount
words | batch(2) | list
numbers | batch(2) | map("list") | list
words | join(",") | upper
spaced.strip()
spaced.lstrip()
spaced.rstrip()
"xxaxx".strip("x")
line.split(",")
spaced.split()
"a  b c".split(" ", 1)
"a  b c".split(none, 1)
"a b c d".split(" ")[-1]
line.split(",")[0]
"a.b.c".rsplit(".", 1)
"k=v=w".partition("=")
word.upper()
word.lower()
"hello wORLD".title()
"hello".capitalize()
"hello".startswith("he")
"hello".startswith(("x", "he"))
"hello".endswith("lo")
"hello".replace("l", "L")
"hello".replace("l", "L", 1)
"hello".find("l")
"hello".find("z")
"hello".rfind("l")
"hello".index("l")
"hello".count("l")
"a1".isdigit()
"12".isdigit()
"ab".isalpha()
"".isdigit()
", ".join(["a", "b"])
"x".join(words)
"{} {}".format(1, "b")
"abc".removeprefix("a")
"abc".removesuffix("c")
"a\\nb\\n".splitlines()
"7".zfill(3)
nested.keys() | list
nested.values() | list
pairs[0].items() | list
pairs[0].get("k")
pairs[0].get("zz")
pairs[0].get("zz", 5)
numbers.index(2)
numbers.count(3)
numbers.append(4)
numbers.pop()
nested.update({"z": 1})
"abc".__class__
"abc".nomethod()
namespace(a=1).a
range(4) | list
range(1, 8, 3) | list
range(5, 0, -2) | list
range(n)[2]
range(1000000000) | list
dict(a=1, b="x")
dict(a=1).a
raise_exception("stop")
cycler("a", "b").next()
joiner(",")
unknown_function(1)
word | nofilter
word is notest
"\\u00e9\\t\\x41"
'single \\'quoted\\''
"tab\\tend"
'a' 'b'
1_000
0x10
1.5e2
[1, 2,]
{"a": 1,}
[x for x in numbers]
n if
n +
(n
""".strip().splitlines()

TEMPLATES = [
    "plain",
    "a\n",
    "a\n\n",
    "{{ n }}\n{{ n }}\n",
    "{% if n %}\nyes\n{% endif %}\nend\n",
    "  {% if n %}  yes  {% endif %}  end",
    "x {%- if n -%}  yes  {%- endif -%} y",
    "x\n  {%- if n %}\n  yes\n  {%- endif %}\n y",
    "x {{- n -}} y",
    "x\n{#- note -#}\ny{# note #}\nz",
    "a{%+ if n %}\nb{% endif %}",
    "   {%+ if n %}b{% endif %}",
    "{% if zero %}a{% elif n == 7 %}b{% else %}c{% endif %}",
    "{% if missing %}a{% elif none %}b{% else %}c{% endif %}",
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ m.role }};{% endfor %}",
    "{% for x in numbers %}{{ loop.revindex }},{{ loop.revindex0 }},{{ loop.previtem }},{{ loop.nextitem }} {% endfor %}",
    "{% for x in numbers if x > 1 %}{{ loop.index }}:{{ x }} {% else %}none{% endfor %}",
    "{% for x in [] %}x{% else %}none{% endfor %}",
    "{% for x in missing %}x{% else %}none{% endfor %}",
    "{% for x in nothing %}x{% endfor %}",
    "{% for x in n %}x{% endfor %}",
    "{% for k, v in nested.items() %}{{ k }}={{ v }}{% endfor %}",
    "{% for k in pairs[0] %}{{ k }}{% endfor %}",
    "{% for a, b in [[1, 2], [3, 4]] %}{{ a + b }} {% endfor %}",
    "{% for a, b in [[1, 2, 3]] %}{{ a }}{% endfor %}",
    "{% for c in word %}{{ c }}.{% endfor %}",
    "{% for x in numbers %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in numbers %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in numbers %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in [1,2] %}{% for y in [1,2] %}{{ loop.index }}{{ x }}{{ y }} {% endfor %}{{ loop.index }}{% endfor %}",
    "{% for x in [1,1,2] %}{{ loop.changed(x) }}{% endfor %}",
    "{% for x in numbers recursive %}{{ x }}{% endfor %}",
    "{% set a = 1 %}{{ a }}{% set a = a + 1 %}{{ a }}",
    "{% set a = 1 %}{% for x in numbers %}{% set a = x %}{% endfor %}{{ a }}",
    "{% set a = 1 %}{% if yes %}{% set a = 2 %}{% endif %}{{ a }}",
    "{% set ns = namespace(found=false, n=0) %}{% for x in numbers %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }} {{ ns.found }}",
    "{% set ns = namespace() %}{{ ns.x is defined }}{% set ns.x = 3 %}{{ ns.x }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a %}text {{ n }}{% endset %}{{ a | upper }}",
    "{% set a.b = 1 %}",
    "{% set nested.a = 1 %}",
    "{% macro m(a, b=2) %}{{ a }}-{{ b }};{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=4, a=0) }}{{ m() }}",
    "{% macro m(a) %}{{ a }}{% if a > 0 %}{{ m(a - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% macro m(a) %}{{ n }}{% endmacro %}{% set n = 9 %}{{ m(1) }}",
    "{% for x in [1] %}{% set q = 5 %}{% endfor %}{{ q is defined }}",
    "{% raw %}{{ n }}{% endraw %}",
    "{% with a = 1 %}{{ a }}{% endwith %}",
    "{% filter upper %}abc{% endfilter %}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
    "{% unknown %}",
    "{% if n %}",
    "{% endif %}",
    "{{ n",
    "{% if n",
    "{# n",
    "{{ }}",
    "{{ '}}' }}",
    "{{ \"{% if %}\" }}",
    "{{ {'a': {'b': 1}}['a']['b'] }}",
    "{",
    "}} %} #}",
    "{{ messages[1].content | trim }}|{{ messages[1]['content'] }}|",
    "{% for m in messages %}{% if m.content is string %}{{ '<|' + m.role + '|>' + m.content }}{% elif m.content is none %}{{ m.tool_calls[0].function.arguments | tojson }}{% else %}{% for p in m.content %}{{ p.text if p.type == 'text' else '<img>' }}{% endfor %}{% endif %}\n{% endfor %}",
    "{%- if messages[0]['role'] == 'system' -%}\n    {%- set system_message = messages[0]['content'] | trim -%}\n    {%- set loop_messages = messages[1:] -%}\n{%- else -%}\n    {%- set loop_messages = messages -%}\n{%- endif -%}\n{{ bos_token }}{% for m in loop_messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{{ m.role }}{% endfor %}",
    "{{ '' if not tools else 'tools: ' + (tools | map(attribute='function.name') | join(',')) }}",
    "{% set x = messages | map(attribute='role') | list %}{{ x.index('tool') }}{{ x }}",
    "{{ n }}" + "{# c #}" * 3 + "\n\n{{ n }}",
    "\t {% set a = 1 %}\n\t{{ a }}",
    "a\r\n{% if n %}\r\nb\r\n{% endif %}\r\nc",
]


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def main():
    env = environment()
    print(json.dumps({"variables": VARIABLES}, ensure_ascii=False))
    for source in [f"{{{{ {e} }}}}" for e in EXPRESSIONS] + TEMPLATES:
        row = {"template": source}
        try:
            row["output"] = env.from_string(source).render(**json.loads(json.dumps(VARIABLES)))
        except Exception as error:  # the sandbox and Python raise many kinds; all mean: refused
            row["error"] = type(error).__name__
        print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    main()
