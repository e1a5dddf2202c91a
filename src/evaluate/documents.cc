#include "evaluate/documents.h"

#include <algorithm>
#include <cctype>
#include <functional>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "evaluate/filter.h"
#include "evaluate/python_literal.h"
#include "evaluate/python_text.h"

namespace narrow::evaluate {
namespace {

namespace fs = std::filesystem;

// A row becomes a document, or nothing.
using Preparation =
    std::function<std::optional<Json>(const Json& row, const std::string& where, PythonRandom&)>;

std::string replaced(const std::string& text, const std::string& from, const std::string& to) {
  std::string result;
  size_t begin = 0;
  for (size_t at; (at = text.find(from, begin)) != std::string::npos; begin = at + from.size())
    result.append(text, begin, at - begin).append(to);
  return result.append(text, begin);
}

// The cleaning of HellaSwag, which GPQA's task has as well.
std::string cleaned(std::string text) {
  const auto blank = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  while (!text.empty() && blank(text.back())) text.pop_back();
  text.erase(text.begin(), std::find_if_not(text.begin(), text.end(), blank));
  static const Pattern brackets("\\[.*?\\]");
  return replaced(brackets.remove_all(replaced(text, " [title]", ". ")), "  ", " ");
}

// Python's str.capitalize for the ASCII letters that begin HellaSwag's sentences.
std::string capitalized(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x80)
      c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (!text.empty() && static_cast<unsigned char>(text[0]) < 0x80)
    text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  return text;
}

std::optional<Json> hellaswag(const Json& row, const std::string& where, PythonRandom&) {
  const auto text = [&](const char* key) { return json_get<std::string>(row, key, where); };
  Json endings = Json::array();
  for (const auto& ending : json_get<std::vector<std::string>>(row, "endings", where))
    endings.push_back(cleaned(ending));
  const Json label = json_get<Json>(row, "label", where);
  const std::string digit = label.is_string() ? label.get<std::string>() : label.dump();
  if (digit.size() != 1 || digit[0] < '0' || digit[0] >= static_cast<char>('0' + endings.size()))
    throw Error::refused("\"label\" is the index of no ending", where);
  Json document = row;
  document["query"] =
      cleaned(text("activity_label") + ": " + text("ctx_a") + " " + capitalized(text("ctx_b")));
  document["choices"] = std::move(endings);
  document["gold"] = digit[0] - '0';
  return document;
}

std::optional<Json> gpqa(const Json& row, const std::string& where, PythonRandom& random) {
  const auto choice = [&](const char* key) {
    return cleaned(json_get<std::string>(row, key, where));
  };
  const std::string right = choice("Correct Answer");
  std::vector<std::string> choices{choice("Incorrect Answer 1"), choice("Incorrect Answer 2"),
                                   choice("Incorrect Answer 3"), right};
  random.shuffle(choices);
  Json document = row;
  for (size_t i = 0; i < choices.size(); ++i)
    document["choice" + std::to_string(i + 1)] = choices[i];
  const auto at = std::find(choices.begin(), choices.end(), right) - choices.begin();
  document["answer"] = std::string("(") + static_cast<char>('A' + at) + ")";
  return document;
}

// LightEval's own GPQA: the right answer goes to a drawn place, the others keep their order.
std::optional<Json> gpqa_lighteval(const Json& row, const std::string& where,
                                   PythonRandom& random) {
  const auto field = [&](const char* key) {
    return std::string(python::strip(json_get<std::string>(row, key, where)));
  };
  std::vector<std::string> choices{field("Incorrect Answer 1"), field("Incorrect Answer 2"),
                                   field("Incorrect Answer 3")};
  const int64_t place = random.below(4);
  choices.insert(choices.begin() + place, field("Correct Answer"));
  Json document = row;
  document["question"] = field("Question");
  document["choices"] = std::move(choices);
  document["answer"] = std::string(1, static_cast<char>('A' + place));
  return document;
}

// What stands in the last \boxed{...} of a solution, or the harness's mark for none.
std::string boxed_answer(const std::string& solution) {
  const std::string none = "[invalidanswer]";
  if (const size_t at = solution.rfind("\\boxed "); at != std::string::npos) {
    const std::string rest = solution.substr(at + 7);
    return rest.substr(0, rest.find('$'));
  }
  const std::string mark = "\\boxed{";
  const size_t begin = solution.rfind("\\boxed");
  if (begin == std::string::npos || solution.compare(begin, mark.size(), mark) != 0) return none;
  int open = 0;
  for (size_t i = begin; i < solution.size(); ++i) {
    if (solution[i] == '{') ++open;
    if (solution[i] == '}' && --open == 0)
      return solution.substr(begin + mark.size(), i - begin - mark.size());
  }
  return none;
}

std::optional<Json> math_level_5(const Json& row, const std::string& where, PythonRandom&) {
  if (json_get<std::string>(row, "level", where) != "Level 5") return std::nullopt;
  const auto solution = json_get<std::string>(row, "solution", where);
  return Json{{"problem", json_get<std::string>(row, "problem", where)},
              {"solution", solution},
              {"answer", boxed_answer(solution)}};
}

// Two sets of the same problems differ in how fields are written; the answer is a whole number.
std::optional<Json> aime(const Json& row, const std::string& where, PythonRandom&) {
  const bool capital = row.contains("Problem");
  const Json answer = json_get<Json>(row, capital ? "Answer" : "answer", where);
  const std::string number = answer.is_string() ? answer.get<std::string>() : answer.dump();
  return Json{{"problem", json_get<std::string>(row, capital ? "Problem" : "problem", where)},
              {"answer", number},
              {"solution", "$\\boxed{" + number + "}$"}};
}

std::optional<Json> musr(const Json& row, const std::string& where, PythonRandom&) {
  Json document = row;
  if (const Json choices = json_get<Json>(row, "choices", where); choices.is_string())
    document["choices"] = parse_python_literal(choices.get<std::string>(), where);
  return document;
}

// The original file has {answer: 1 or 0}, the hub {choices, labels}.
std::optional<Json> truthfulqa(const Json& row, const std::string& where, PythonRandom&) {
  Json document = row;
  for (const char* key : {"mc1_targets", "mc2_targets"}) {
    const Json targets = json_get<Json>(row, key, where);
    if (targets.is_object() && targets.contains("choices")) continue;
    Json choices = Json::array(), labels = Json::array();
    for (const auto& [choice, label] : targets.items()) {
      choices.push_back(choice);
      labels.push_back(label);
    }
    document[key] = {{"choices", std::move(choices)}, {"labels", std::move(labels)}};
  }
  return document;
}

// Questions with four choices, lettered A to D.
std::optional<Json> arc_letters(const Json& row, const std::string& where, PythonRandom&) {
  const Json choices = json_get<Json>(row, "choices", where);
  if (json_get<Json>(choices, "label", where).size() != 4) return std::nullopt;
  auto key = json_get<std::string>(row, "answerKey", where);
  if (key.size() == 1 && key[0] >= '1' && key[0] <= '4')
    key[0] = static_cast<char>('A' + (key[0] - '1'));
  if (key.size() != 1 || key[0] < 'A' || key[0] > 'D')
    throw Error::refused("\"answerKey\" names none of four choices", where);
  Json lettered = choices;
  lettered["label"] = {"A", "B", "C", "D"};
  return Json{{"question", json_get<std::string>(row, "question", where)},
              {"choices", std::move(lettered)},
              {"answerKey", key}};
}

// WikiText parts words and marks by blanks; the text as it was is scored, the page's own words and
// bytes are counted.
std::optional<Json> wikitext(const Json& row, const std::string& where, PythonRandom&) {
  const auto page = json_get<std::string>(row, "page", where);
  std::string text = page;
  const auto replace = [&](const std::string& from, const std::string& to) {
    text = replaced(text, from, to);
  };
  replace("s '", "s'");
  static const Pattern apostrophe("/' [0-9]/");
  text = apostrophe.replace_all(text, "/'[0-9]/");  // sic
  for (const char* mark : {"-", ",", "."}) replace(std::string(" @") + mark + "@ ", mark);
  for (const char* mark : {":", ";", ".", "!", "?", ","})
    replace(std::string(" ") + mark + " ", std::string(mark) + " ");
  static const std::pair<Pattern, const char*> kPairs[] = {
      {Pattern(R"(\(\s*([^\)]*?)\s*\))"), R"((\1))"},
      {Pattern(R"(\[\s*([^\]]*?)\s*\])"), R"([\1])"},
      {Pattern(R"({\s*([^}]*?)\s*})"), R"({\1})"},
      {Pattern(R"("\s*([^"]*?)\s*")"), R"("\1")"},
      {Pattern(R"('\s*([^']*?)\s*')"), R"('\1')"}};
  for (const auto& [pattern, inner] : kPairs) text = pattern.replace_all(text, inner);
  for (const auto& [from, to] : {std::pair{"= = = =", "===="},
                                 {"= = =", "==="},
                                 {"= =", "=="},
                                 {" ° ", "°"},
                                 {" \n", "\n"},
                                 {"\n ", "\n"},
                                 {" N ", " 1 "},
                                 {" 's", "'s"}})
    replace(from, to);
  return Json{{"page", page}, {"text", std::move(text)}};
}

// The rows themselves; task.cc reads EvalPlus's files by code_documents.h.
std::optional<Json> unchanged(const Json& row, const std::string&, PythonRandom&) { return row; }

// The test split of a file that holds all of MBPP.
std::optional<Json> mbpp_test(const Json& row, const std::string& where, PythonRandom&) {
  const auto id = json_get<int64_t>(row, "task_id", where);
  return id >= 11 && id <= 510 ? std::optional(row) : std::nullopt;
}

const std::map<std::string, Preparation>& preparations() {
  static const std::map<std::string, Preparation> all{
      {"aime", aime},           {"arc_letters", arc_letters},
      {"evalplus", unchanged},  {"mbpp_test", mbpp_test},
      {"gpqa", gpqa},           {"gpqa_lighteval", gpqa_lighteval},
      {"hellaswag", hellaswag}, {"math_level_5", math_level_5},
      {"musr", musr},           {"truthfulqa", truthfulqa},
      {"wikitext", wikitext}};
  return all;
}

// Comma-separated values with quotes.
std::vector<std::vector<std::string>> parse_csv(const std::string& text) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> row;
  std::string field;
  bool quoted = false, any = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c != '"') {
        field += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        field += text[++i];
      } else {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = any = true;
    } else if (c == ',') {
      row.push_back(std::exchange(field, {}));
      any = true;
    } else if (c == '\n') {
      if (any || !field.empty()) {
        row.push_back(std::exchange(field, {}));
        rows.push_back(std::exchange(row, {}));
      }
      any = false;
    } else if (c != '\r') {
      field += c;
      any = true;
    }
  }
  if (any || !field.empty()) {
    row.push_back(field);
    rows.push_back(row);
  }
  return rows;
}

bool is_mmlu_row(const std::vector<std::string>& fields) {
  return fields.size() == 6 && fields[5].size() == 1 && fields[5][0] >= 'A' && fields[5][0] <= 'D';
}

std::vector<Json> csv_documents(const std::string& text, const std::string& where) {
  const auto table = parse_csv(text);
  std::vector<Json> rows;
  const bool named = !table.empty() && !is_mmlu_row(table[0]);
  for (size_t i = named ? 1 : 0; i < table.size(); ++i) {
    const auto& fields = table[i];
    if (!named && !is_mmlu_row(fields))
      throw Error::refused("expected question, four choices and a letter",
                           where + ":" + std::to_string(i + 1));
    if (named && fields.size() != table[0].size())
      throw Error::refused("the first line names " + std::to_string(table[0].size()) +
                               " columns, here are " + std::to_string(fields.size()),
                           where + ", row " + std::to_string(i));
    Json row;
    if (named) {
      for (size_t column = 0; column < fields.size(); ++column)
        row[table[0][column]] = fields[column];
    } else {
      row = {{"question", fields[0]},
             {"choices", {fields[1], fields[2], fields[3], fields[4]}},
             {"answer", fields[5][0] - 'A'}};
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

std::vector<Json> read_documents(const fs::path& path) {
  const std::string where = path.string();
  if (path.extension() == ".csv") return csv_documents(read_text(path), where);
  std::vector<Json> rows;
  if (path.extension() == ".json") {
    Json whole = read_json(path);
    if (whole.is_object()) whole = json_get<Json>(whole, "examples", where);
    if (!whole.is_array()) throw Error::refused("expected a list of objects", where);
    for (Json& row : whole) {
      if (!row.is_object())
        throw Error::refused("expected an object", where + ", row " + std::to_string(rows.size()));
      rows.push_back(std::move(row));
    }
    return rows;
  }
  for_each_json_line(path, [&](Json&& row, int64_t line) {
    if (!row.is_object())
      throw Error::refused("expected an object", where + ":" + std::to_string(line));
    rows.push_back(std::move(row));
  });
  return rows;
}

std::vector<std::string> preparation_names() {
  std::vector<std::string> names;
  for (const auto& [name, preparation] : preparations()) names.push_back(name);
  return names;
}

uint32_t preparation_seed(const std::string& name) { return name == "gpqa_lighteval" ? 1234 : 0; }

std::vector<Json> prepare(const std::string& name, std::vector<Json> rows, const std::string& where,
                          PythonRandom& random) {
  const Preparation& preparation = preparations().at(name);
  std::vector<Json> documents;
  for (size_t i = 0; i < rows.size(); ++i)
    if (auto document = preparation(rows[i], where + ", row " + std::to_string(i + 1), random))
      documents.push_back(std::move(*document));
  return documents;
}

}  // namespace narrow::evaluate
