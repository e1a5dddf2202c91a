#include "report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "analyse/test_study.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/temporary_directory.h"
#include "report/embedded.h"
#include "report/escape.h"
#include "report/numbers.h"

namespace narrow::report {
namespace {

using analyse::Analysis;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

analyse::Options quick() {
  analyse::Options options;
  options.resamples = 200;
  return options;
}

Analysis made_up(const analyse::test::Shape& shape = {}) {
  return analyse::analyse(analyse::test::study(shape), quick());
}

// One start tag of a page: its name and attributes. All attributes of the page are quoted.
struct Tag {
  std::string name;
  std::vector<std::pair<std::string, std::string>> attributes;
};

// The start tags outside the content of <style> and <script>, as a browser would find them.
std::vector<Tag> tags_of(const std::string& page) {
  std::vector<Tag> tags;
  for (size_t at = 0; (at = page.find('<', at)) != std::string::npos;) {
    ++at;
    if (page[at] == '/' || page[at] == '!') continue;
    Tag tag;
    while (std::isalnum(static_cast<unsigned char>(page[at]))) tag.name += page[at++];
    while (at < page.size() && page[at] != '>') {
      if (page[at] == ' ' || page[at] == '/' || page[at] == '\n') {
        ++at;
        continue;
      }
      std::pair<std::string, std::string> attribute;
      while (page[at] != '=' && page[at] != '>' && page[at] != ' ') attribute.first += page[at++];
      if (page[at] == '=') {
        EXPECT_EQ(page[at + 1], '"') << tag.name << " " << attribute.first;
        const size_t end = page.find('"', at + 2);
        attribute.second = page.substr(at + 2, end - at - 2);
        at = end + 1;
      }
      tag.attributes.push_back(std::move(attribute));
    }
    if (tag.name == "script" || tag.name == "style") at = page.find("</" + tag.name, at);
    tags.push_back(std::move(tag));
  }
  return tags;
}

// Contents of the page's <script> elements, in order.
std::vector<std::string> scripts_of(const std::string& page) {
  std::vector<std::string> scripts;
  for (size_t at = 0; (at = page.find("<script", at)) != std::string::npos;) {
    const size_t begin = page.find('>', at) + 1, end = page.find("</script>", begin);
    scripts.push_back(page.substr(begin, end - begin));
    at = end;
  }
  return scripts;
}

// Base64 of the 32 bytes that 64 hex digits name, bit by bit.
std::string base64_of_hex(const std::string& hex) {
  std::string bits, result;
  for (const char digit : hex) {
    const int value = std::stoi(std::string(1, digit), nullptr, 16);
    for (int bit = 3; bit >= 0; --bit) bits += (value >> bit & 1) != 0 ? '1' : '0';
  }
  bits += "00";
  for (size_t at = 0; at < bits.size(); at += 6)
    result += "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[std::stoi(
        bits.substr(at, 6), nullptr, 2)];
  return result + "=";
}

// Only elements and attributes that cannot load, run or submit anything.
void expect_inert(const std::string& page) {
  static const std::set<std::string> kElements = {
      "html",       "head",     "meta",   "link",  "title",  "style",   "body",
      "header",     "div",      "nav",    "a",     "main",   "section", "article",
      "h1",         "h2",       "h3",     "p",     "span",   "details", "summary",
      "ul",         "li",       "strong", "table", "thead",  "tbody",   "tr",
      "th",         "td",       "svg",    "rect",  "line",   "circle",  "figure",
      "figcaption", "small",    "canvas", "pre",   "dl",     "dt",      "dd",
      "footer",     "noscript", "script", "label", "select", "option",  "input"};
  int scripts = 0;
  for (const Tag& tag : tags_of(page)) {
    ASSERT_TRUE(kElements.contains(tag.name)) << tag.name;
    scripts += tag.name == "script";
    for (const auto& [name, value] : tag.attributes) {
      EXPECT_FALSE(name.starts_with("on")) << tag.name << " " << name;
      EXPECT_NE(name, "src");
      EXPECT_TRUE(name != "href" || value.starts_with("#") || value == "data:,") << value;
      EXPECT_TRUE(name != "style" || value.find("url(") == std::string::npos) << value;
    }
  }
  EXPECT_TRUE(scripts == 4 || scripts == 5) << scripts;  // five with pairs to read
}

TEST(Page, HasEveryPart) {
  const std::string page = html(made_up());
  // To look at it: NARROW_REPORT_OUT=FILE report_test.
  if (const char* path = std::getenv("NARROW_REPORT_OUT")) write_text(path, page);
  for (const char* part :
       {"id=\"formats\"", "id=\"accuracy\"", "id=\"cost\"", "id=\"similarity\"",
        "id=\"quantization\"", "id=\"provenance\"", "id=\"terms\"", "data-plot=\"pareto-sync\"",
        "data-plot=\"pareto-async\"", "data-plot=\"latency-sync\"", "data-plot=\"layers-outputs\"",
        "id=\"reader\"", "multiplied by 0.125", "Small samples"})
    EXPECT_THAT(page, HasSubstr(part));
  expect_inert(page);
}

TEST(Page, SameRowsSameBytes) { EXPECT_EQ(html(made_up()), html(made_up())); }

// The policy allows exactly the two scripts of the page; a changed byte would not run.
TEST(Page, PolicyNamesTheScriptsByHash) {
  const std::string page = html(made_up());
  const auto scripts = scripts_of(page);
  ASSERT_EQ(scripts.size(), 5u);
  EXPECT_EQ(scripts[2], chart_min_js());
  EXPECT_EQ(scripts[3], page_js());
  EXPECT_EQ(scripts[4], reader_js());
  const size_t begin = page.find("content=\"default-src");
  const std::string policy = page.substr(begin, page.find('>', begin) - begin);
  EXPECT_THAT(policy, HasSubstr("default-src 'none'"));
  EXPECT_THAT(policy, Not(HasSubstr("unsafe-eval")));
  for (const size_t i : {2u, 3u, 4u})
    EXPECT_THAT(policy, HasSubstr("'sha256-" + base64_of_hex(sha256_hex(scripts[i])) + "'"));
  // What `openssl dgst -sha256 -binary | base64` says of "".
  EXPECT_EQ(base64_of_hex(sha256_hex("")), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
  // The data blocks cannot end early and are JSON.
  for (const size_t i : {0u, 1u}) EXPECT_EQ(scripts[i].find('<'), std::string::npos);
  EXPECT_TRUE(parse_json(scripts[0], "pairs").contains("samples"));
  EXPECT_TRUE(parse_json(scripts[1], "data").contains("plots"));
}

const std::vector<std::string>& payloads() {
  static const std::vector<std::string> kPayloads = [] {
    std::vector<std::string> list;
    const char* bodies[] = {"<script>alert(1)</script>",
                            "<img src=x onerror=alert(1)>",
                            "\" onmouseover=\"alert(1)",
                            "' onfocus='alert(1)",
                            "</script><script>alert(1)</script>",
                            "<svg/onload=alert(1)>",
                            "</style><script>alert(1)</script>",
                            "<!--",
                            "-->",
                            "]]>",
                            "&lt;script&gt;",
                            "&#60;b&#62;",
                            "javascript:alert(1)",
                            "<a href=\"https://example.invalid\">x</a>",
                            "<iframe src=//x>",
                            "<base href=//x>",
                            "<meta http-equiv=refresh content=0>",
                            "<form action=//x><input>",
                            "\u202Egnp.exe",
                            "\u2066x\u2069",
                            "\xE2\x80\x8B",
                            "\x1b[31mred",
                            "\x01\x02\x7f",
                            "\xC2\x85",
                            "\xff\xfe",
                            "\xC0\x80",
                            "\xED\xA0\x80",
                            "\xF4\x90\x80\x80",
                            "\xE2\x80\xA8var x",
                            "{{7*7}}",
                            "${7*7}",
                            "%3Cscript%3E",
                            "\r\nX: y",
                            "<plaintext>",
                            "<xmp>",
                            "<textarea>",
                            "<title>",
                            "</title></head><body onload=alert(1)>",
                            "<link rel=stylesheet href=//x>",
                            "=1+1|x"};
    for (const char* body : bodies)
      for (const char* frame : {"{}", "a{}b", "\"{}", "'{}", "</td>{}"}) {
        std::string text = frame;
        text.replace(text.find("{}"), 2, body);
        list.push_back(std::move(text));
      }
    return list;
  }();
  return kPayloads;
}

// 200 hostile strings, each in model output, prompts, names of models, formats and machines.
TEST(Page, IsInertWhateverTheRowsSay) {
  ASSERT_EQ(payloads().size(), 200u);
  analyse::test::Shape shape;
  shape.questions = 8;
  analyse::Options options = quick();
  options.resamples = 100;
  for (const std::string& payload : payloads()) {
    shape.suffix = shape.prompt = payload;
    options.baseline = "bf16" + payload;
    const Analysis analysis = analyse::analyse(analyse::test::study(shape), options);
    const std::string page = html(analysis);
    expect_inert(page);
    if (HasFatalFailure()) FAIL() << payload;
    for (const char* raw :
         {"\u202E", "\u2066", "\xE2\x80\x8B", "\x1b", "\x01", "\xff", "\xE2\x80\xA8"}) {
      // Chart.js itself must not be searched.
      const std::string ours = page.substr(0, page.find(chart_min_js().substr(0, 100)));
      EXPECT_EQ(ours.find(raw), std::string::npos) << payload;
    }
    const std::string text = markdown(analysis);
    // The commands at the end are an indented code block.
    EXPECT_EQ(text.substr(0, text.find("\n    narrow study")).find("<script"), std::string::npos);
    EXPECT_EQ(json(analysis).find('\xff'), std::string::npos);
  }
}

TEST(Page, TenMegabytesOfAnswerAreCut) {
  analyse::test::Shape shape;
  shape.prompt = std::string(10'000'000, 'x');
  const std::string page = html(made_up(shape));
  EXPECT_LT(page.size(), 1'000'000u);
  EXPECT_THAT(page, HasSubstr("bytes left out)"));
}

TEST(Page, EmptyStudiesMakeAPageToo) {
  auto cells = analyse::test::cells();
  for (auto& rows : cells) rows.rows.resize(std::min<size_t>(rows.rows.size(), 1));
  for (const char* kind : {"eval", "load", "similarity", "quantize", "environment"}) {
    auto left = cells;
    std::erase_if(left, [&](const auto& rows) { return rows.cell.kind == kind; });
    const Analysis analysis =
        analyse::analyse(analyse::parse_study(nullptr, nullptr, left), quick());
    expect_inert(html(analysis));
    EXPECT_FALSE(markdown(analysis).empty());
    EXPECT_FALSE(summary(analysis).empty());
  }
}

TEST(Escape, MakesDeceptionVisible) {
  EXPECT_EQ(escape("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(visible("\u202Eabc"), "<U+202E>abc");
  EXPECT_EQ(visible("\x1b[0m\n\t"), "<U+001B>[0m\n\t");
  EXPECT_EQ(visible("\xC3"), "\uFFFD");
  EXPECT_EQ(visible("\xE2\x82\xAC 漢 é"), "€ 漢 é");
  EXPECT_EQ(visible("\xC0\xAF"), "\uFFFD\uFFFD");
  EXPECT_EQ(escape_cut("ééé", 3), "é … (4 more bytes)");
  EXPECT_EQ(escape_csv("=HYPERLINK(1)"), "'=HYPERLINK(1)");
  EXPECT_EQ(escape_csv("a,\"b\""), "\"a,\"\"b\"\"\"");
  EXPECT_EQ(escape_markdown("a|b\n<i>"), "a\\|b &lt;i>");
  EXPECT_EQ(script_json({{"x", "</script>&"}}), "{\"x\":\"\\u003c/script\\u003e\\u0026\"}");
}

TEST(Numbers, DigitsFollowTheStandardError) {
  EXPECT_EQ(decimals(3.14, 1), 1);
  EXPECT_EQ(decimals(0.314, 1), 2);
  EXPECT_EQ(decimals(31.4, 1), 0);
  EXPECT_EQ(decimals(0, 1), 1);
  EXPECT_EQ(points(-0.0123, 1), "−1.2");
  EXPECT_EQ(points(0.0123, 1), "+1.2");
  EXPECT_EQ(points(-0.0001, 1), "0.0");
  EXPECT_EQ(p_value(0.0004), "< 0.001");
  EXPECT_EQ(bytes(269'060'552), "269 MB");
  EXPECT_EQ(bytes(999'900), "1.00 MB");
  EXPECT_EQ(seconds(0.0123), "12.3 ms");
  EXPECT_EQ(whole(14042), "14\u202F042");
  EXPECT_EQ(significant(0.00004321), "0.0000432");
  EXPECT_EQ(significant(0), "0");
}

TEST(Outputs, SayTheSameInEveryForm) {
  const Analysis analysis = made_up();
  EXPECT_THAT(csv(analysis), StartsWith("section,format,name,metric,value,low,high,source\n"));
  EXPECT_THAT(csv(analysis), HasSubstr("accuracy,w8a8-fp,arc_challenge,difference,"));
  EXPECT_EQ(parse_json(json(analysis), "json")["recommendations"].size(), 3u);
  EXPECT_THAT(markdown(analysis), HasSubstr("| format | accuracy |"));
  EXPECT_THAT(summary(analysis), HasSubstr("synchronous   w4a16-int (provisional): "));
}

TEST(Outputs, AreWrittenWhole) {
  const TemporaryDirectory folder;
  const auto path = folder.path() / "report.html";
  const Analysis analysis = made_up();
  write_html(analysis, path);
  EXPECT_EQ(read_text(path), html(analysis));
  EXPECT_THROW(write(analysis, "pdf", path), Error);
  EXPECT_THROW(write_html(analysis, "/nonexistent/report.html"), Error);
}

}  // namespace
}  // namespace narrow::report
