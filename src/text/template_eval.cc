#include "text/template_eval.h"

#include <cmath>
#include <ctime>
#include <optional>

#include "base/error.h"
#include "text/template_functions.h"

namespace narrow::text::jinja {
namespace {

constexpr size_t kMaxCalls = 100;  // nested macro calls

using Variables = std::unordered_map<std::string, Value>;

// Thrown by {% break %} and {% continue %}, caught by the loop around them.
struct LoopStop {
  bool leave;
};

class Evaluator {
 public:
  Evaluator(const Variables& variables, bool strict, const Limits& limits)
      : strict_(strict), limits_(limits) {
    scopes_.push_back(variables);
    define_functions();
  }

  Text run(const Body& body) {
    Text out;
    execute(body, out);
    return out;
  }

  Value evaluate(const Expression& e) {
    step(e.line);
    switch (e.kind) {
      case Expression::Kind::literal:
        return e.value;
      case Expression::Kind::name:
        return lookup(e.text);
      case Expression::Kind::list:
      case Expression::Kind::tuple: {
        List list;
        list.tuple = e.kind == Expression::Kind::tuple;
        for (const auto& item : e.items) list.push_back(evaluate(*item));
        return list;
      }
      case Expression::Kind::dict: {
        Dict dict;
        for (size_t i = 0; i + 1 < e.items.size(); i += 2)
          dict.emplace_back(to_text(evaluate(*e.items[i])), evaluate(*e.items[i + 1]));
        return dict;
      }
      case Expression::Kind::attribute:
        return subscript(evaluate(*e.items[0]), Text::markup(e.text));
      case Expression::Kind::index:
        return subscript(evaluate(*e.items[0]), evaluate(*e.items[1]));
      case Expression::Kind::slice:
        return slice(evaluate(*e.items[0]), optional(e.items[1]), optional(e.items[2]),
                     optional(e.items[3]));
      case Expression::Kind::call:
        return call(e);
      case Expression::Kind::filter: {
        const Value input = evaluate(*e.items[0]);
        Arguments arguments = evaluate(e.arguments);
        return apply_filter(e.text, input, arguments);
      }
      case Expression::Kind::test: {
        const Value input = evaluate(*e.items[0]);
        Arguments arguments = evaluate(e.arguments);
        return apply_test(e.text, input, arguments) != e.negated;
      }
      case Expression::Kind::unary:
        return unary(e);
      case Expression::Kind::binary:
        return binary(e);
      case Expression::Kind::condition:
        if (truthy(evaluate(*e.items[1]))) return evaluate(*e.items[0]);
        return e.items[2] ? evaluate(*e.items[2]) : Value(Undefined{"else"});
    }
    return {};
  }

 private:
  [[noreturn]] void refuse(const std::string& what, int line) const {
    throw Error::refused(what, "template, line " + std::to_string(line));
  }

  void step(int line) {
    if (++steps_ > limits_.steps) refuse("takes too many steps", line);
  }

  void define_functions() {
    Variables& globals = scopes_.front();
    globals["raise_exception"] = Function([](Arguments& arguments) -> Value {
      const std::string what = arguments.positional.empty()
                                   ? "the template refuses these messages"
                                   : to_text(arguments.positional[0]).bytes;
      throw Error::refused(what, "chat template");
    });
    globals["namespace"] = Function([](Arguments& arguments) -> Value {
      Dict dict;
      for (const auto& [name, value] : arguments.named)
        dict.emplace_back(Text::markup(name), value);
      return dict;
    });
    globals["dict"] = globals["namespace"];
    globals["range"] = Function([this](Arguments& arguments) -> Value { return range(arguments); });
    globals["strftime_now"] = Function([](Arguments& arguments) -> Value {
      const std::string format =
          arguments.positional.empty() ? "" : to_text(arguments.positional[0]).bytes;
      char buffer[128];
      const std::time_t now = std::time(nullptr);
      std::tm parts;
      localtime_r(&now, &parts);
      const size_t size = std::strftime(buffer, sizeof(buffer), format.c_str(), &parts);
      return Text::markup(std::string(buffer, size));
    });
  }

  Value range(const Arguments& arguments) {
    int64_t bounds[3] = {0, 0, 1};
    const size_t count = arguments.positional.size();
    for (size_t i = 0; i < count && i < 3; ++i) {
      const int64_t* number = arguments.positional[i].get<int64_t>();
      if (!number) refuse("range needs integers", 0);
      bounds[count == 1 ? 1 : i] = *number;
    }
    if (count == 0 || count > 3 || bounds[2] == 0) refuse("range needs one to three integers", 0);
    List list;
    for (int64_t i = bounds[0]; bounds[2] > 0 ? i < bounds[1] : i > bounds[1]; i += bounds[2]) {
      step(0);
      list.push_back(i);
    }
    return list;
  }

  Value lookup(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
      if (const auto found = scope->find(name); found != scope->end()) return found->second;
    return Undefined{name};
  }

  Value optional(const ExpressionPtr& e) { return e ? evaluate(*e) : Value(); }

  Arguments evaluate(const std::vector<Argument>& list) {
    Arguments arguments;
    for (const Argument& argument : list) {
      if (argument.name.empty()) {
        arguments.positional.push_back(evaluate(*argument.value));
      } else {
        arguments.named.emplace_back(argument.name, evaluate(*argument.value));
      }
    }
    return arguments;
  }

  Value call(const Expression& e) {
    const Expression& target = *e.items[0];
    if (target.kind == Expression::Kind::attribute) {
      const Value object = evaluate(*target.items[0]);
      const Value* member = object.dict() ? find(*object.dict(), target.text) : nullptr;
      if (!member || !std::get_if<std::shared_ptr<Function>>(&member->data)) {
        Arguments arguments = evaluate(e.arguments);
        return call_method(object, target.text, arguments);
      }
    }
    const Value callee = evaluate(target);
    const auto* function = std::get_if<std::shared_ptr<Function>>(&callee.data);
    if (!function) refuse("\"" + target.text + "\" cannot be called", e.line);
    Arguments arguments = evaluate(e.arguments);
    return (**function)(arguments);
  }

  Value unary(const Expression& e) {
    const Value operand = evaluate(*e.items[0]);
    if (e.text == "not") return !truthy(operand);
    const int sign = e.text == "-" ? -1 : 1;
    if (const int64_t* integer = operand.get<int64_t>()) return sign * *integer;
    if (const double* real = operand.get<double>()) return sign * *real;
    refuse("a sign before something that is no number", e.line);
  }

  Value binary(const Expression& e) {
    const std::string& op = e.text;
    const Value left = evaluate(*e.items[0]);
    if (op == "and") return truthy(left) ? evaluate(*e.items[1]) : left;
    if (op == "or") return truthy(left) ? left : evaluate(*e.items[1]);
    const Value right = evaluate(*e.items[1]);
    if (op == "==") return equal(left, right);
    if (op == "!=") return !equal(left, right);
    if (op == "<") return less(left, right);
    if (op == ">") return less(right, left);
    if (op == "<=") return !less(right, left);
    if (op == ">=") return !less(left, right);
    if (op == "in") return contains(right, left);
    if (op == "not in") return !contains(right, left);
    if (op == "~") {
      Text text = to_text(left);
      text += to_text(right);
      return bounded(std::move(text), e.line);
    }
    return arithmetic(e, left, right);
  }

  Value bounded(Text text, int line) {
    if (text.bytes.size() > limits_.output_bytes) refuse("makes too long a text", line);
    return text;
  }

  Value arithmetic(const Expression& e, const Value& left, const Value& right) {
    const std::string& op = e.text;
    if (op == "+" && left.get<Text>() && right.get<Text>()) {
      Text text = *left.get<Text>();
      text += *right.get<Text>();
      return bounded(std::move(text), e.line);
    }
    if (op == "+" && left.list() && right.list()) {
      List list = *left.list();
      list.insert(list.end(), right.list()->begin(), right.list()->end());
      steps_ += static_cast<int64_t>(list.size());
      return list;
    }
    if (op == "*" && left.get<Text>() && right.get<int64_t>()) {
      Text text;
      for (int64_t i = 0; i < *right.get<int64_t>(); ++i) {
        step(e.line);
        text += *left.get<Text>();
        if (text.bytes.size() > limits_.output_bytes) refuse("makes too long a text", e.line);
      }
      return text;
    }
    const int64_t *a = left.get<int64_t>(), *b = right.get<int64_t>();
    if (a && b) {
      int64_t result;
      if (op == "+" && !__builtin_add_overflow(*a, *b, &result)) return result;
      if (op == "-" && !__builtin_sub_overflow(*a, *b, &result)) return result;
      if (op == "*" && !__builtin_mul_overflow(*a, *b, &result)) return result;
      if (op == "**" && *b >= 0) return integer_power(*a, *b, e.line);
      if ((op == "//" || op == "%") && *b != 0 && *b != -1) {
        const int64_t quotient = *a / *b - (*a % *b != 0 && (*a < 0) != (*b < 0) ? 1 : 0);
        return op == "//" ? quotient : *a - quotient * *b;
      }
    }
    const auto real = [&](const Value& value) -> double {
      if (const int64_t* integer = value.get<int64_t>()) return static_cast<double>(*integer);
      if (const double* number = value.get<double>()) return *number;
      if (value.undefined())
        refuse("\"" + value.get<Undefined>()->name + "\" is undefined", e.line);
      refuse("\"" + op + "\" between these values", e.line);
    };
    const double x = real(left), y = real(right);
    if (op == "+") return x + y;
    if (op == "-") return x - y;
    if (op == "*") return x * y;
    if (op == "**") return std::pow(x, y);
    if (y == 0) refuse("division by zero", e.line);
    if (op == "/") return x / y;
    if (op == "//") return std::floor(x / y);
    return x - std::floor(x / y) * y;
  }

  Value integer_power(int64_t base, int64_t exponent, int line) {
    int64_t result = 1;
    for (int64_t i = 0; i < exponent; ++i) {
      step(line);
      if (__builtin_mul_overflow(result, base, &result)) refuse("too large a power", line);
    }
    return result;
  }

  void write(const Text& text, Text& out, int line) {
    out += text;
    if (out.bytes.size() > limits_.output_bytes) refuse("writes too much", line);
  }

  void execute(const Body& body, Text& out) {
    for (const auto& node : body) execute(*node, out);
  }

  void execute(const Node& node, Text& out) {
    step(node.line);
    switch (node.kind) {
      case Node::Kind::text:
        return write(Text::markup(node.text), out, node.line);
      case Node::Kind::output: {
        const Value value = evaluate(*node.expression);
        if (strict_ && value.undefined())
          refuse("\"" + value.get<Undefined>()->name + "\" is undefined", node.line);
        return write(to_text(value), out, node.line);
      }
      case Node::Kind::branch:
        return execute(truthy(evaluate(*node.expression)) ? node.body : node.otherwise, out);
      case Node::Kind::loop:
        return loop(node, out);
      case Node::Kind::assign:
        return assign(node);
      case Node::Kind::macro:
        scopes_.back()[node.text] =
            Function([this, &node](Arguments& arguments) { return call_macro(node, arguments); });
        return;
      case Node::Kind::group:
        return execute(node.body, out);
      case Node::Kind::stop_loop:
        throw LoopStop{node.text == "break"};
    }
  }

  void bind(const std::vector<std::string>& names, const Value& value, int line) {
    if (names.size() == 1) {
      scopes_.back()[names[0]] = value;
      return;
    }
    const List parts = iterate(value);
    if (parts.size() != names.size()) refuse("the number of names and values differs", line);
    for (size_t i = 0; i < names.size(); ++i) scopes_.back()[names[i]] = parts[i];
  }

  void assign(const Node& node) {
    Value value;
    if (node.expression) {
      value = evaluate(*node.expression);
    } else {
      Text text;
      execute(node.body, text);
      value = std::move(text);
    }
    if (node.attribute.empty()) return bind(node.names, value, node.line);
    const Value target = lookup(node.names[0]);
    Dict* dict = target.dict();
    if (!dict) refuse("\"" + node.names[0] + "\" is no namespace", node.line);
    for (auto& [key, item] : *dict) {
      if (key.bytes == node.attribute) {
        item = value;
        return;
      }
    }
    dict->emplace_back(Text::markup(node.attribute), value);
  }

  struct Scope {
    explicit Scope(Evaluator& evaluator) : evaluator(evaluator) {
      evaluator.scopes_.emplace_back();
    }
    ~Scope() { evaluator.scopes_.pop_back(); }
    Evaluator& evaluator;
  };

  void loop(const Node& node, Text& out) {
    List items = iterate(evaluate(*node.expression));
    if (node.filter) {
      List kept;
      for (const Value& item : items) {
        const Scope scope(*this);
        bind(node.names, item, node.line);
        if (truthy(evaluate(*node.filter))) kept.push_back(item);
      }
      items = std::move(kept);
    }
    if (items.empty()) return execute(node.otherwise, out);
    const auto count = static_cast<int64_t>(items.size());
    for (int64_t i = 0; i < count; ++i) {
      step(node.line);
      const Scope scope(*this);
      const auto at = static_cast<size_t>(i);
      Dict state;
      const auto put = [&](const char* name, Value value) {
        state.emplace_back(Text::markup(name), std::move(value));
      };
      put("index", i + 1);
      put("index0", i);
      put("revindex", count - i);
      put("revindex0", count - i - 1);
      put("first", i == 0);
      put("last", i + 1 == count);
      put("length", count);
      put("previtem", i > 0 ? items[at - 1] : Value(Undefined{"previtem"}));
      put("nextitem", i + 1 < count ? items[at + 1] : Value(Undefined{"nextitem"}));
      scopes_.back()["loop"] = std::move(state);
      bind(node.names, items[at], node.line);
      try {
        execute(node.body, out);
      } catch (const LoopStop& stop) {
        if (stop.leave) return;
      }
    }
  }

  Value call_macro(const Node& node, Arguments& arguments) {
    if (scopes_.size() > kMaxCalls) refuse("macros call each other too deeply", node.line);
    const Scope scope(*this);
    for (size_t i = 0; i < node.names.size(); ++i) {
      const std::string& name = node.names[i];
      std::optional<Value> value;
      if (i < arguments.positional.size()) value = arguments.positional[i];
      for (const auto& [key, given] : arguments.named)
        if (key == name) value = given;
      if (!value) value = node.defaults[i] ? evaluate(*node.defaults[i]) : Value(Undefined{name});
      scopes_.back()[name] = *value;
    }
    Text out;
    execute(node.body, out);
    return out;
  }

  const bool strict_;
  const Limits limits_;
  int64_t steps_ = 0;
  std::vector<Variables> scopes_;
};

}  // namespace

Text run(const Body& body, const Variables& variables, bool strict, const Limits& limits) {
  return Evaluator(variables, strict, limits).run(body);
}

std::unique_ptr<Value> run_expression(const Body& body, const Variables& variables,
                                      const Limits& limits) {
  if (body.size() != 1 || body[0]->kind != Node::Kind::output) return nullptr;
  return std::make_unique<Value>(
      Evaluator(variables, /*strict=*/true, limits).evaluate(*body[0]->expression));
}

}  // namespace narrow::text::jinja
