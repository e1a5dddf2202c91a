#include "evaluate/math_compare.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "evaluate/python_text.h"

namespace narrow::evaluate::math {
namespace {

constexpr int kPoints = 6;
constexpr long double kRounding = 1e6L;  // decimals are compared at six places

bool is_relation(const Expression& e) {
  return e->kind == Kind::relation || e->kind == Kind::chain;
}

bool is_equation(const Expression& e) {
  if (e->kind == Kind::relation) return e->name == "=";
  return e->kind == Kind::chain && std::all_of(e->args.begin(), e->args.end(), is_equation);
}

const Expression& first_side(const Expression& e) {
  return e->kind == Kind::chain ? e->args.front()->args[0] : e->args[0];
}
const Expression& last_side(const Expression& e) {
  return e->kind == Kind::chain ? e->args.back()->args[1] : e->args[1];
}

bool is_assignment(const Expression& e) { return is_equation(e) && only_symbols(first_side(e)); }

bool is_set(const Expression& e) {
  return e->kind == Kind::set || e->kind == Kind::interval || e->kind == Kind::set_operation ||
         e->kind == Kind::named_set;
}

// A number, perhaps of percent.
const Number* atomic(const Expression& e) {
  if (e->kind == Kind::number) return &e->number;
  if (e->kind == Kind::percent && e->args[0]->kind == Kind::number) return &e->args[0]->number;
  return nullptr;
}

std::optional<long double> constant_value(const Expression& e) {
  std::vector<std::string> symbols;
  collect_symbols(e, symbols);
  if (!symbols.empty() || !is_scalar(e)) return std::nullopt;
  const auto value = numeric_value(e, 0);
  if (!value || std::abs(value->imag()) > 1e-15L) return std::nullopt;
  return value->real();
}

// Whether a real value is an integer of sympy's, which rounding leaves exact.
bool exact_integer(const Expression& e) {
  return e->kind == Kind::number && e->number.is_integer();
}

bool same_scalar(const Expression& gold, const Expression& answer) {
  const Number* a = atomic(gold);
  const Number* b = atomic(answer);
  if ((a && a->decimal) || (b && b->decimal)) {
    // A decimal fraction is as good as six places of it, but no integer is.
    const auto x = constant_value(gold), y = constant_value(answer);
    if (x && y && !exact_integer(gold) && !exact_integer(answer) &&
        std::nearbyint(*x * kRounding) == std::nearbyint(*y * kRounding))
      return true;
  } else if (a && b && a->is_integer() && b->is_integer()) {
    // 9 % is as good as 9.
    if (a->residue == b->residue) return true;
  }
  return same_value(gold, answer) && !floats_differ(gold, answer);
}

bool same_symbol(const Expression& gold, const Expression& answer) {
  const auto shown = [](const Expression& e) -> std::optional<std::string> {
    if (e->kind == Kind::symbol) return e->name.size() > 1 ? python::lower(e->name) : e->name;
    if (e->kind == Kind::constant && e->name == "e") return "e";
    return std::nullopt;
  };
  const auto letters = [&](const Expression& e) -> std::optional<std::string> {
    if (e->kind != Kind::mul) return shown(e);
    std::string all;
    for (const Expression& arg : e->args) {
      const auto part = shown(arg);
      if (!part) return part;
      all += *part;
    }
    return all;
  };
  const auto a = letters(gold), b = letters(answer);
  if (a && b) return python::lower(*a) == python::lower(*b);
  return structure(gold) == structure(answer);
}

bool same_elements_in_order(const std::vector<Expression>& gold,
                            const std::vector<Expression>& answer) {
  return gold.size() == answer.size() &&
         std::equal(gold.begin(), gold.end(), answer.begin(), equivalent);
}

bool same_elements(const std::vector<Expression>& gold, std::vector<Expression> answer) {
  if (gold.size() != answer.size()) return false;
  for (const Expression& element : gold) {
    const auto found = std::find_if(answer.begin(), answer.end(), [&](const Expression& other) {
      return equivalent(element, other);
    });
    if (found == answer.end()) return false;
    answer.erase(found);
  }
  return true;
}

// A union as its members, so that order and grouping do not count.
void collect_members(const Expression& e, std::vector<Expression>& members) {
  if (e->kind == Kind::set_operation && e->name == "union") {
    for (const Expression& arg : e->args) collect_members(arg, members);
  } else {
    members.push_back(e);
  }
}

bool same_sets(const Expression& gold, const Expression& answer) {
  if (structure(gold) == structure(answer)) return true;
  if (gold->kind == Kind::interval && answer->kind == Kind::interval)
    return gold->left_open == answer->left_open && gold->right_open == answer->right_open &&
           same_elements_in_order(gold->args, answer->args);
  if (gold->kind == Kind::set_operation || answer->kind == Kind::set_operation) {
    if (gold->kind == answer->kind && gold->name != "union" && gold->name == answer->name)
      return same_elements_in_order(gold->args, answer->args);
    std::vector<Expression> a, b;
    collect_members(gold, a);
    collect_members(answer, b);
    return a.size() > 1 && same_elements(a, std::move(b));
  }
  // "(1, 2)" reads as an open interval where a tuple or a set may be meant.
  const auto listed = [](const Expression& e) -> std::optional<std::vector<Expression>> {
    if (e->kind == Kind::set || e->kind == Kind::tuple) return e->args;
    if (is_set(e)) return std::nullopt;
    return std::vector<Expression>{e};
  };
  const auto a = listed(gold), b = listed(answer);
  const auto open = [](const Expression& e) {
    return e->kind == Kind::interval && e->left_open && e->right_open;
  };
  if (a && b) {
    if (gold->kind == Kind::tuple) return same_elements_in_order(*a, *b);
    return same_elements(*a, *b);
  }
  if (open(gold) && b && b->size() == 2) return same_elements_in_order(gold->args, *b);
  if (open(answer) && a && a->size() == 2)
    return gold->kind == Kind::tuple ? same_elements_in_order(*a, answer->args)
                                     : same_elements(*a, answer->args);
  return false;
}

bool same_matrices(const Expression& gold, const Expression& answer) {
  return gold->kind == Kind::matrix && answer->kind == Kind::matrix &&
         gold->columns == answer->columns && same_elements_in_order(gold->args, answer->args);
}

Expression difference(const Expression& relation) {
  return add(relation->args[0], negate(relation->args[1]));
}

// Whether the second expression is the first times some constant but 0.
bool constant_ratio(const Expression& a, const Expression& b) {
  std::optional<std::complex<long double>> ratio;
  int compared = 0;
  for (int point = 0; point < kPoints; ++point) {
    const auto x = numeric_value(a, point), y = numeric_value(b, point);
    if (!x || !y || std::abs(*x) < 1e-9L) continue;
    const auto here = *y / *x;
    if (ratio && std::abs(*ratio - here) > 1e-12L * std::abs(here)) return false;
    ratio = here;
    ++compared;
  }
  return compared >= 3 && std::abs(*ratio) > 1e-9L;
}

std::string mirrored(const std::string& name) {
  if (name == "<") return ">";
  if (name == ">") return "<";
  if (name == "<=") return ">=";
  if (name == ">=") return "<=";
  return name;
}

bool same_relations(const Expression& gold, const Expression& answer) {
  if (gold->kind == Kind::chain || answer->kind == Kind::chain) {
    return gold->kind == answer->kind && gold->args.size() == answer->args.size() &&
           std::equal(gold->args.begin(), gold->args.end(), answer->args.begin(), same_relations);
  }
  const bool sets = !is_scalar(gold->args[0]) || !is_scalar(gold->args[1]) ||
                    !is_scalar(answer->args[0]) || !is_scalar(answer->args[1]);
  if (sets) return gold->name == answer->name && same_elements_in_order(gold->args, answer->args);
  const Expression a = difference(gold), b = difference(answer);
  if (gold->name == answer->name && same_scalar(a, b)) return true;
  if (gold->name == mirrored(answer->name) && same_scalar(a, negate(b))) return true;
  // Equations may be multiples of each other; of inequalities math-verify does not ask that.
  return gold->name == "=" && answer->name == "=" && constant_ratio(a, b);
}

constexpr long double kInfinity = std::numeric_limits<long double>::infinity();

Expression bound(const Expression& value, bool open_end, bool left) {
  return open_end ? (left ? negate(make_constant("oo")) : make_constant("oo")) : value;
}

// Of two intervals whose ends are numbers.
Expression intersect_intervals(const Expression& a, const Expression& b) {
  const auto value = [](const Expression& interval, size_t end) {
    return constant_value(interval->args[end]).value_or(end == 0 ? -kInfinity : kInfinity);
  };
  Node node{Kind::interval, {}, {}, {}, true, false, false, 0};
  const Expression& left = value(a, 0) > value(b, 0) ? a : b;
  const Expression& right = value(a, 1) < value(b, 1) ? a : b;
  node.args = {left->args[0], right->args[1]};
  node.left_open = value(a, 0) == value(b, 0) ? a->left_open || b->left_open : left->left_open;
  node.right_open = value(a, 1) == value(b, 1) ? a->right_open || b->right_open : right->right_open;
  if (!(value(left, 0) < value(right, 1))) return nullptr;
  return std::make_shared<const Node>(std::move(node));
}

// Of `x op c` or `c op x`.
Expression linear_solutions(const Expression& relation) {
  std::string name = relation->name;
  Expression value = relation->args[1];
  if (relation->args[0]->kind != Kind::symbol) {
    if (value->kind != Kind::symbol) return nullptr;
    value = relation->args[0];
    name = mirrored(name);
  }
  if (!constant_value(value)) return nullptr;
  if (name == "=") return make(Kind::set, {value});
  if (name == "!=") return nullptr;
  const bool below = name[0] == '<', strict = name.size() == 1;
  Node node{Kind::interval,
            {},
            {bound(value, below, true), bound(value, !below, false)},
            {},
            true,
            below || strict,
            !below || strict,
            0};
  return std::make_shared<const Node>(std::move(node));
}

// The solutions of a chain such as 1 < x <= 2, or of one part of it; null when it is another kind.
Expression solution_set(const Expression& e) {
  if (e->kind == Kind::chain) {
    Expression all;
    for (const Expression& relation : e->args) {
      const Expression part = solution_set(relation);
      if (!part) return nullptr;
      all = all ? intersect_intervals(all, part) : part;
      if (!all) return nullptr;
    }
    return all;
  }
  return linear_solutions(e);
}

}  // namespace

bool equivalent(const Expression& raw_gold, const Expression& raw_answer) {
  Expression gold = raw_gold, answer = raw_answer;
  const bool gold_assigns = is_assignment(gold), answer_assigns = is_assignment(answer);
  const bool gold_equates = is_equation(gold), answer_equates = is_equation(answer);
  const auto shortened = [](const Expression& e) {
    return make(Kind::relation, {first_side(e), last_side(e)}, "=");
  };
  if (gold_assigns) gold = shortened(gold);
  if (answer_assigns) answer = shortened(answer);
  if (answer_equates && !gold_equates) {
    answer = last_side(answer);
  } else if (gold_assigns && !answer_equates) {
    gold = last_side(gold);
  }
  if (is_relation(gold) && is_set(answer))
    if (const Expression solved = solution_set(gold)) gold = solved;
  if (structure(gold) == structure(answer)) return true;
  if (is_relation(gold) && is_relation(answer)) return same_relations(gold, answer);
  if (is_relation(gold) || is_relation(answer)) return false;
  const auto lists = [](const Expression& e) { return is_set(e) || e->kind == Kind::tuple; };
  if (lists(gold) || lists(answer)) return same_sets(gold, answer);
  if (gold->kind == Kind::symbol || answer->kind == Kind::symbol) return same_symbol(gold, answer);
  if (gold->kind == Kind::matrix || answer->kind == Kind::matrix)
    return same_matrices(gold, answer);
  return same_scalar(gold, answer);
}

}  // namespace narrow::evaluate::math
