#include "evaluate/math_lexer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "evaluate/math_parser.h"
#include "text/utf8.h"

namespace narrow::evaluate::math {
namespace {

using Spelling = std::pair<std::string_view, std::string_view>;

// Commands and characters that are operators, with the spelling the parser knows.
constexpr Spelling kOperators[] = {Spelling{"\\times", "*"},
                                   {"\\cdot", "*"},
                                   {"\\div", "/"},
                                   {"\\over", "/"},
                                   Spelling{"\\lbrace", "\\{"},
                                   {"\\rbrace", "\\}"},
                                   {"\\lbrack", "["},
                                   {"\\rbrack", "]"},
                                   Spelling{"\\lvert", "|"},
                                   {"\\rvert", "|"},
                                   {"\\vert", "|"},
                                   {"\\lt", "<"},
                                   Spelling{"\\gt", ">"},
                                   {"\\leq", "<="},
                                   {"\\le", "<="},
                                   {"\\leqslant", "<="},
                                   Spelling{"\\geq", ">="},
                                   {"\\ge", ">="},
                                   {"\\geqslant", ">="},
                                   {"\\neq", "!="},
                                   Spelling{"\\ne", "!="},
                                   {"\\equiv", "="},
                                   {"\\approx", "~"},
                                   {"\\in", "in"},
                                   Spelling{"\\notin", "notin"},
                                   {"\\cup", "union"},
                                   {"\\cap", "intersection"},
                                   Spelling{"\\setminus", "minus"},
                                   {"\\pm", "+-"},
                                   {"\\mp", "+-"},
                                   {"\\mod", "mod"},
                                   Spelling{"\\lgroup", "("},
                                   {"\\rgroup", ")"},
                                   {"\\emptyset", "empty"},
                                   Spelling{"<=", "<="},
                                   {">=", ">="},
                                   {"!=", "!="},
                                   {"==", "="},
                                   Spelling{"~=", "~"},
                                   {"−", "-"},
                                   {"×", "*"},
                                   {"⋅", "*"},
                                   Spelling{"∙", "*"},
                                   {"∗", "*"},
                                   {"÷", "/"},
                                   {"∕", "/"},
                                   Spelling{"≤", "<="},
                                   {"≥", ">="},
                                   {"≠", "!="},
                                   {"≈", "~"},
                                   Spelling{"∪", "union"},
                                   {"∩", "intersection"},
                                   {"±", "+-"},
                                   {"∅", "empty"},
                                   Spelling{"\\{\\}", "empty"},
                                   {"\\{", "\\{"},
                                   {"\\}", "\\}"},
                                   {"\\|", "\\|"},
                                   Spelling{"\\\\", "\\\\"},
                                   {"\\(", "("},
                                   {"\\)", ")"},
                                   {"+", "+"},
                                   Spelling{"-", "-"},
                                   {"*", "*"},
                                   {"/", "/"},
                                   {"(", "("},
                                   Spelling{")", ")"},
                                   {"[", "["},
                                   {"]", "]"},
                                   {"{", "{"},
                                   Spelling{"}", "}"},
                                   {"|", "|"},
                                   {"^", "^"},
                                   {"_", "_"},
                                   Spelling{",", ","},
                                   {";", ";"},
                                   {":", ":"},
                                   {"!", "!"},
                                   Spelling{"&", "&"},
                                   {"=", "="},
                                   {"<", "<"},
                                   {">", ">"},
                                   Spelling{"'", "transpose"},
                                   {"^T", "transpose"},
                                   {"^{T}", "transpose"},
                                   {"^\\circ", "degree"},
                                   Spelling{"^{\\circ}", "degree"},
                                   {"^\\degree", "degree"},
                                   {"^{\\degree}", "degree"},
                                   {"^°", "degree"},
                                   Spelling{"\\mathbb{N}", "N"},
                                   {"\\mathbb{Z}", "Z"},
                                   {"\\mathbb{Q}", "Q"},
                                   Spelling{"\\mathbb{R}", "R"},
                                   {"\\mathbb{C}", "C"},
                                   {"ℕ", "N"},
                                   {"ℤ", "Z"},
                                   Spelling{"ℚ", "Q"},
                                   {"ℝ", "R"},
                                   {"ℂ", "C"}};

constexpr std::string_view kDropped[] = {"\\,",
                                         "\\:",
                                         "\\;",
                                         "\\!",
                                         "\\$",
                                         "\\thinspace",
                                         "\\medspace",
                                         "\\thickspace",
                                         "\\quad",
                                         "\\qquad",
                                         "\\negthinspace",
                                         "\\negmedspace",
                                         "\\negthickspace",
                                         "\\vrule",
                                         "\\vspace",
                                         "\\vskip",
                                         "\\hfil"};

constexpr Spelling kGreek[] = {
    Spelling{"α", "alpha"}, {"β", "beta"},    {"γ", "gamma"}, {"Γ", "Gamma"},  {"δ", "delta"},
    Spelling{"Δ", "Delta"}, {"ε", "epsilon"}, {"ζ", "zeta"},  {"η", "eta"},    {"θ", "theta"},
    Spelling{"Θ", "Theta"}, {"ι", "iota"},    {"κ", "kappa"}, {"λ", "lambda"}, {"Λ", "Lambda"},
    Spelling{"μ", "mu"},    {"ν", "nu"},      {"ξ", "xi"},    {"Ξ", "Xi"},     {"π", "pi"},
    Spelling{"Π", "Pi"},    {"ρ", "rho"},     {"σ", "sigma"}, {"Σ", "Sigma"},  {"τ", "tau"},
    Spelling{"φ", "phi"},   {"Φ", "Phi"},     {"χ", "chi"},   {"ψ", "psi"},    {"ω", "omega"},
    Spelling{"Ω", "Omega"}};

constexpr std::string_view kGreekNames[] = {
    "alpha",  "beta",  "gamma", "Gamma",   "delta",    "Delta", "epsilon", "varepsilon",
    "zeta",   "eta",   "theta", "Theta",   "vartheta", "iota",  "kappa",   "lambda",
    "Lambda", "mu",    "nu",    "xi",      "Xi",       "pi",    "Pi",      "rho",
    "sigma",  "Sigma", "tau",   "upsilon", "phi",      "Phi",   "varphi",  "chi",
    "psi",    "Psi",   "omega", "Omega",   "varrho"};

constexpr std::string_view kOtherSymbols[] = {
    "angle",  "triangle", "ell",   "hbar",  "prime",      "Im",         "Re",
    "square", "nabla",    "imath", "jmath", "varnothing", "complement", "diamondsuit"};

constexpr std::string_view kAccents[] = {
    "acute",    "bar",    "overline",   "breve",          "check",   "dot",    "ddot",
    "grave",    "hat",    "tilde",      "widetilde",      "vec",     "bm",     "boldsymbol",
    "text",     "textit", "textbf",     "textnormal",     "mathbb",  "mathbf", "mathcal",
    "mathfrak", "mathit", "mathnormal", "overrightarrow", "mathop",  "mathrm", "mathscr",
    "mathsf",   "mathtt", "mbox",       "mathord",        "mathring"};

// Plain words that the grammar takes for names of operators: no symbol may contain them.
constexpr std::string_view kWords[] = {
    "arsinh", "arcsinh",     "arcosh",    "arccosh",     "artanh",     "arctanh",   "gcd",
    "lcm",    "floor",       "ceil",      "eye",         "zeros",      "ones",      "cols",
    "rows",   "diag",        "norm",      "rank",        "trace",      "tr",        "rref",
    "hstack", "vstack",      "orth",      "ortho",       "orthogonal", "nullspace", "eig",
    "eigen",  "diagonalize", "eigenvals", "eigenvalues", "eigenvects", "svd",       "SVD",
    "matrix", "pmatrix",     "bmatrix"};

template <class Names>
bool contains(const Names& names, std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) step();
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return text_.substr(at_); }
  char peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  void emit(TokenKind kind, std::string_view text, size_t length) {
    tokens_.push_back({kind, std::string(text), at_});
    at_ += length;
  }

  void step() {
    if (is_blank(peek())) {
      ++at_;
    } else if (is_digit(peek()) || (peek() == '.' && is_digit(peek(1)))) {
      number();
    } else if (peek() == '\\' && is_letter(peek(1))) {
      command();
    } else if (is_letter(peek())) {
      letters();
    } else if (!dropped() && !operator_of(rest(), 0)) {
      for (const auto& [character, name] : kGreek)
        if (rest().starts_with(character)) return emit(TokenKind::greek, name, character.size());
      throw Unparsable("no token begins here");
    }
  }

  bool dropped() {
    for (const std::string_view name : kDropped)
      if (rest().starts_with(name)) {
        at_ += name.size();
        return true;
      }
    return false;
  }

  // `least`: a shorter spelling does not count.
  bool operator_of(std::string_view text, size_t least) {
    const Spelling* best = nullptr;
    for (const Spelling& spelling : kOperators)
      if (text.starts_with(spelling.first) && (!best || spelling.first.size() > best->first.size()))
        best = &spelling;
    if (!best || best->first.size() < least) return false;
    emit(TokenKind::operator_, best->second, best->first.size());
    return true;
  }

  size_t digits(size_t from) const {
    size_t count = 0;
    while (is_digit(peek(from + count))) ++count;
    return count;
  }

  void number() {
    size_t length = digits(0);
    if (peek(length) == '.' && is_digit(peek(length + 1))) length += 1 + digits(length + 1);
    const std::string_view text = rest().substr(0, length);
    if (peek(length) == 'E') {
      const size_t sign = peek(length + 1) == '-' || peek(length + 1) == '+' ? 1 : 0;
      if (const size_t exponent = digits(length + 1 + sign); exponent > 0)
        return emit(TokenKind::scientific, rest().substr(0, length + 1 + sign + exponent),
                    length + 1 + sign + exponent);
    }
    const size_t blank = is_blank(peek(length)) ? 1 : 0;
    const std::string_view after = rest().substr(length + blank);
    for (const std::string_view sign : {"\\%", "%"})
      if (after.starts_with(sign))
        return emit(TokenKind::percentage, text, length + blank + sign.size());
    emit(TokenKind::number, text, length);
  }

  void letters() {
    size_t length = 0;
    while (is_letter(peek(length))) ++length;
    // The longest reserved word counts.
    std::string_view word;
    for (const std::string_view candidate : kWords)
      if (rest().starts_with(candidate) && candidate.size() > word.size()) word = candidate;
    if (word.size() > 1) return emit(TokenKind::word, word, word.size());
    if (peek() == 'd') {
      size_t next = 1;
      while (is_blank(peek(next))) ++next;
      size_t end = next;
      if (peek(next) == '\\') {
        ++end;
        while (is_letter(peek(end))) ++end;
        if (end == next + 1) end = next;
      } else if (is_letter(peek(next))) {
        ++end;
      }
      if (end > next) return emit(TokenKind::differential, rest().substr(next, end - next), end);
    }
    const TokenKind kind = peek() == 'e'   ? TokenKind::euler
                           : peek() == 'E' ? TokenKind::capital_e
                                           : TokenKind::letter;
    emit(kind, rest().substr(0, 1), 1);
  }

  void command() {
    size_t length = 1;
    while (is_letter(peek(length))) ++length;
    const std::string_view name = rest().substr(1, length - 1);
    if (name == "begin" || name == "end") return environment(name, length);
    if (contains(kAccents, name) && accent(name, length)) return;
    // The longest known beginning of the letters is the command, as in "\cdotx".
    for (size_t size = length; size > 1; --size) {
      const std::string_view text = rest().substr(0, size), known = text.substr(1);
      if (contains(kDropped, text)) {
        at_ += size;
        return;
      }
      for (const Spelling& spelling : kOperators)
        if (spelling.first == text) return emit(TokenKind::operator_, spelling.second, size);
      if (contains(kGreekNames, known)) return emit(TokenKind::greek, known, size);
      if (contains(kOtherSymbols, known)) return emit(TokenKind::greek, known, size);
      if (is_command(known)) return emit(TokenKind::command, known, size);
    }
    if (!operator_of(rest(), 2)) throw Unparsable("an unknown command");
  }

  static bool is_command(std::string_view name) {
    static constexpr std::string_view kCommands[] = {
        "frac",         "dfrac",  "tfrac",  "cfrac",  "sqrt",   "binom",   "tbinom",  "dbinom",
        "choose",       "log",    "ln",     "exp",    "sin",    "cos",     "tan",     "csc",
        "sec",          "cot",    "arcsin", "arccos", "arctan", "arccsc",  "arcsec",  "arccot",
        "sinh",         "cosh",   "tanh",   "arsinh", "arcosh", "artanh",  "arcsinh", "arccosh",
        "arctanh",      "gcd",    "lcm",    "floor",  "ceil",   "max",     "min",     "infty",
        "lfloor",       "rfloor", "lceil",  "rceil",  "boxed",  "phantom", "langle",  "rangle",
        "operatorname", "det"};
    return contains(kCommands, name);
  }

  void environment(std::string_view name, size_t length) {
    const size_t open = at_ + length, close = text_.find('}', open);
    if (peek(length) != '{' || close == std::string_view::npos)
      throw Unparsable("a broken environment");
    const std::string_view type = text_.substr(open + 1, close - open - 1);
    size_t end = close + 1;
    if (type == "array" && name == "begin") {
      const size_t columns = text_.find('}', end);
      if (end >= text_.size() || text_[end] != '{' || columns == std::string_view::npos ||
          text_.substr(end + 1, columns - end - 1).find_first_not_of("clr") !=
              std::string_view::npos)
        throw Unparsable("a broken array");
      end = columns + 1;
    } else if (type != "matrix" && type != "pmatrix" && type != "bmatrix" && type != "array") {
      throw Unparsable("an unknown environment");
    }
    emit(name == "begin" ? TokenKind::matrix_begin : TokenKind::matrix_end, type, end - at_);
  }

  // \text{…} is called by its letters; other accents keep their name, so that \vec{v} is not v.
  bool accent(std::string_view name, size_t length) {
    const size_t blank = is_blank(peek(length)) ? 1 : 0;
    if (peek(length + blank) != '{') return false;
    const std::string_view whole = rest();
    for (const std::string_view set : {"N", "Z", "Q", "R", "C"})
      if (name == "mathbb" && whole.substr(length).starts_with("{" + std::string(set) + "}"))
        return operator_of(whole, length);
    const size_t close = whole.find('}', length);
    if (close == std::string_view::npos) return false;
    std::string text;
    for (const char c : whole.substr(length + blank + 1, close - length - blank - 1))
      if (c != ' ') text += c;
    if (name.find("text") != std::string_view::npos || name == "mbox") {
      std::erase_if(text, [](char c) { return c == '(' || c == ')'; });
    } else {
      std::string_view shown = name.starts_with("math")   ? "math"
                               : name == "overline"       ? "bar"
                               : name == "overrightarrow" ? "vec"
                               : name == "widetilde"      ? "tilde"
                                                          : name;
      text = std::string(shown) + "{" + text + "}";
    }
    emit(TokenKind::accent, text, close + 1);
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view formula) { return Lexer(formula).run(); }

}  // namespace narrow::evaluate::math
