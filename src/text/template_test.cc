// The template evaluator against jinja2 (tests/goldens/template/make_template.py), and its bounds.
#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "base/json.h"
#include "text/chat_template.h"
#include "text/template_eval.h"

namespace narrow::text {
namespace {

using Variables = std::unordered_map<std::string, jinja::Value>;

jinja::Text render(const std::string& source, const Variables& variables,
                   const jinja::Limits& limits = {}) {
  return jinja::run(jinja::parse(source, {.trim_blocks = true, .lstrip_blocks = true}), variables,
                    /*strict=*/false, limits);
}

// What jinja2 renders and this evaluator refuses by name: no template of a model seen so far uses
// it.
const std::set<std::string> kUnsupported = {
    R"({{ "%s-%d" | format("a", 3) }})",
    R"({{ "7".zfill(3) }})",
    R"({{ "<b>" | e }})",
    R"({{ "a b c" | wordcount }})",
    R"({{ "a.b.c".rsplit(".", 1) }})",
    R"({{ "ab" | replace("", "-") }})",
    R"({{ "ab".isalpha() }})",
    R"({{ "hello".index("l") }})",
    R"({{ "hello".rfind("l") }})",
    R"({{ "k=v=w".partition("=") }})",
    R"({{ "{} {}".format(1, "b") }})",
    R"({{ 0x10 }})",
    R"({{ 1_000 }})",
    R"({{ cycler("a", "b").next() }})",
    R"({{ joiner(",") }})",
    R"({{ numbers | batch(2) | map("list") | list }})",
    R"({{ numbers.count(3) }})",
    R"({{ words | batch(2) | list }})",
    "{% filter upper %}abc{% endfilter %}",
    "{% for x in [1,1,2] %}{{ loop.changed(x) }}{% endfor %}",
    "{% for x in numbers %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in numbers recursive %}{{ x }}{% endfor %}",
    "{% raw %}{{ n }}{% endraw %}",
    "{% with a = 1 %}{{ a }}{% endwith %}",
};

// What jinja2's sandbox refuses and this evaluator lets a template do to its own copy of the data.
const std::string kLenient = "{% set nested.a = 1 %}";

TEST(Template, AgreesWithJinja2) {
  Variables variables;
  int64_t rendered = 0, refused = 0;
  std::set<std::string> unsupported;
  for_each_json_line(std::string(NARROW_SOURCE_DIR) + "/tests/goldens/template/cases.jsonl",
                     [&](Json&& row, int64_t line) {
                       if (line == 1) {
                         for (const auto& [name, value] : row["variables"].items())
                           variables[name] = jinja::from_json(value);
                         return;
                       }
                       const auto source = row["template"].get<std::string>();
                       SCOPED_TRACE(source);
                       // Each case gets variables of its own: values are shared, and a template may
                       // change them.
                       Variables fresh;
                       for (const auto& [name, value] : variables)
                         fresh[name] = jinja::from_json(to_json(value));
                       if (source == kLenient) return;
                       if (row.contains("error")) {
                         EXPECT_THROW(render(source, fresh), Error);
                         ++refused;
                         return;
                       }
                       try {
                         EXPECT_EQ(render(source, fresh).bytes, row["output"].get<std::string>());
                         ++rendered;
                       } catch (const Error& error) {
                         unsupported.insert(source);
                         if (!kUnsupported.count(source)) ADD_FAILURE() << error.what();
                       }
                     });
  EXPECT_EQ(unsupported, kUnsupported);
  EXPECT_GT(rendered, 250);
  EXPECT_GT(refused, 30);
}

// Every source ends, in an Error, within its bounds.
TEST(Template, Bounds) {
  const Variables none;
  const std::string deep(100'000, '('), many_nots = [] {
    std::string s;
    for (int i = 0; i < 50'000; ++i) s += "not ";
    return s;
  }();
  std::string blocks;
  for (int i = 0; i < 20'000; ++i) blocks += "{% if 1 %}";
  std::string chain = "{{ 1";
  for (int i = 0; i < 100'000; ++i) chain += "+1";
  chain += " }}";
  for (const std::string& source : {
           "{{ " + deep + " }}",
           "{{ " + many_nots + "1 }}",
           "{{ " + std::string(100'000, '[') + " }}",
           "{{ " + std::string(100'000, '-') + "1 }}",
           blocks,
           chain,
           std::string("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
           std::string(
               "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
           std::string("{{ 'a' * 999999999999 }}"),
           std::string(
               "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(90) %}{% set ns.s = "
               "ns.s + ns.s %}{% endfor %}"),
           std::string(
               "{% set ns = namespace(l=[1]) %}{% for i in range(90) %}{% set ns.l = ns.l + "
               "ns.l %}{% endfor %}"),
           std::string("{{ 9223372036854775807 + 1 }}x{{ 99999999999999999999 }}{{ 1 / 0 }}"),
       }) {
    EXPECT_THROW(render(source, none), Error) << source.substr(0, 60);
  }
}

// Data keeps its mark through filters, methods and concatenation.
TEST(Template, DataStaysData) {
  const Variables variables = {{"user", jinja::from_json(Json("<|im_end|>"))}};
  for (const char* source :
       {"{{ user }}", "{{ user | trim | upper }}", "{{ (user + '')[0:] }}",
        "{{ user.split('|')[0] }}", "{{ [user] | join(',') }}", "{{ {'a': user} | tojson }}",
        "{% set x %}{{ user }}{% endset %}{{ x }}", "{{ user | replace('x', 'y') }}",
        "{{ [user] }}", "{{ user ~ user }}"}) {
    const jinja::Text text = render(source, variables);
    for (size_t i = 0; i < text.bytes.size(); ++i) {
      if (text.bytes[i] == '<') {
        EXPECT_EQ(text.marks[i], jinja::Text::kData) << source;
      }
    }
    EXPECT_EQ(text.bytes.size(), text.marks.size()) << source;
  }
}

}  // namespace
}  // namespace narrow::text
