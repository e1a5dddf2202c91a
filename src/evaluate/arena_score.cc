#include "evaluate/arena_score.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "evaluate/filter.h"
#include "evaluate/numpy_random.h"

namespace narrow::evaluate {
namespace {

// The rating scale of 400 points a factor of ten; the design's entries are ±ln 10.
constexpr double kScale = 400;
const double kLn10 = std::log(10.0);

// Two models (baseline, model) and four features of style.
constexpr size_t kColumns = 6;
using Vector = std::array<double, kColumns>;

double win_rate(double rating_difference) {
  return 100 / (1 + std::pow(10.0, -rating_difference / kScale));
}

// numpy.percentile, linear. Ratings may be infinite: then the nearer one is taken.
double percentile(const std::vector<double>& sorted, double share) {
  const double at = share / 100 * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<size_t>(at);
  const double a = sorted[low], b = sorted[std::min(low + 1, sorted.size() - 1)];
  const double part = at - static_cast<double>(low);
  if (std::isinf(a) || std::isinf(b)) return part < 0.5 ? a : b;
  return a + (b - a) * part;
}

void set_interval(ArenaScore& score, std::vector<double> ratings) {
  std::sort(ratings.begin(), ratings.end());
  score.low = win_rate(percentile(ratings, 2.5));
  score.high = win_rate(percentile(ratings, 97.5));
}

// Model's rating less the baseline's.
double rating(double won, double count) { return kScale * std::log10(won / (count - won)); }

double won_by_model(ArenaWinner winner) {
  return winner == ArenaWinner::model ? 1 : winner == ArenaWinner::tie ? 0.5 : 0;
}

// A row of the regression: what a battle looks like, how often the baseline won and lost it.
struct Observation {
  Vector x;
  double won = 0, lost = 0;
};

// Solves H d = g in place; H is symmetric and positive definite.
Vector solve(std::array<Vector, kColumns> h, Vector g) {
  for (size_t i = 0; i < kColumns; ++i) {
    for (size_t r = i + 1; r < kColumns; ++r) {
      const double factor = h[r][i] / h[i][i];
      for (size_t c = i; c < kColumns; ++c) h[r][c] -= factor * h[i][c];
      g[r] -= factor * g[i];
    }
  }
  for (size_t i = kColumns; i-- > 0;) {
    for (size_t c = i + 1; c < kColumns; ++c) g[i] -= h[i][c] * g[c];
    g[i] /= h[i][i];
  }
  return g;
}

double dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (size_t i = 0; i < kColumns; ++i) sum += a[i] * b[i];
  return sum;
}

// Minimizes |w|²/2 + Σ log-loss by Newton's method with halved steps: strictly convex.
Vector fit(const std::vector<Observation>& rows, Vector w) {
  // The loss is half of gradient · direction from its least; below this a full step lands on it to
  // within rounding, since the distance to it is squared.
  constexpr double kNear = 1e-9;
  constexpr int kMostSteps = 100;
  const auto softplus = [](double z) {
    return std::max(z, 0.0) + std::log1p(std::exp(-std::abs(z)));
  };
  const auto loss = [&](const Vector& at) {
    double sum = dot(at, at) / 2;
    for (const Observation& row : rows) {
      const double z = dot(at, row.x);
      sum += row.won * softplus(-z) + row.lost * softplus(z);
    }
    return sum;
  };
  double current = loss(w);
  for (int step = 0; step < kMostSteps; ++step) {
    Vector gradient = w;
    std::array<Vector, kColumns> hessian{};
    for (size_t i = 0; i < kColumns; ++i) hessian[i][i] = 1;
    for (const Observation& row : rows) {
      const double p = 1 / (1 + std::exp(-dot(w, row.x)));
      const double count = row.won + row.lost;
      for (size_t i = 0; i < kColumns; ++i) {
        gradient[i] += (count * p - row.won) * row.x[i];
        for (size_t j = 0; j < kColumns; ++j)
          hessian[i][j] += count * p * (1 - p) * row.x[i] * row.x[j];
      }
    }
    const Vector direction = solve(hessian, gradient);
    const auto moved = [&](double scale) {
      Vector next = w;
      for (size_t i = 0; i < kColumns; ++i) next[i] -= scale * direction[i];
      return next;
    };
    const double decrement = dot(gradient, direction);
    if (decrement < kNear) return moved(1);
    double scale = 1;
    while (loss(moved(scale)) > current - 1e-4 * scale * decrement) scale /= 2;
    w = moved(scale);
    current = loss(w);
  }
  throw Error::failed("the regression of style control does not converge");
}

double difference(const Vector& w) { return kScale * (w[1] - w[0]); }

}  // namespace

ArenaVerdict read_verdict(const std::string& judgment) {
  static const Pattern label("\\[\\[([AB<>=]+)\\]\\]");
  const auto found = label.find_all(judgment);
  if (found.empty()) return {"", true};
  const bool same = std::all_of(found.begin(), found.end(),
                                [&](const std::string& one) { return one == found.front(); });
  return {same ? found.front() : "", false};
}

ArenaStyle markdown_style(const std::string& answer) {
  static const Pattern block("```([^`]*)```");
  static const Pattern headers("(?m)^#{1,6}\\s");
  static const Pattern ordered("(?m)^\\s*\\d+\\.\\s"), unordered("(?m)^\\s*[-*+]\\s");
  static const Pattern stars("\\*\\*[^*\\n]+\\*\\*"), underscores("__[^_\\n]+__");
  std::string text = answer;
  for (const std::string& inside : block.find_all(answer)) {
    // An empty block comes back whole from find_all; the original removes nothing for it.
    if (inside.empty() || inside == "``````") continue;
    for (size_t at = 0; (at = text.find(inside, at)) != std::string::npos;)
      text.erase(at, inside.size());
  }
  const auto count = [&](const Pattern& pattern) {
    return static_cast<int64_t>(pattern.find_all(text).size());
  };
  return {0, count(headers), count(ordered) + count(unordered), count(stars) + count(underscores)};
}

std::vector<ArenaBattle> arena_battles(const std::vector<ArenaGames>& games, int strong_weight) {
  std::vector<ArenaBattle> battles;
  for (size_t q = 0; q < games.size(); ++q) {
    for (size_t game = 0; game < 2; ++game) {
      const std::string& label = games[q].labels[game];
      const ArenaWinner a = game == 0 ? ArenaWinner::baseline : ArenaWinner::model;
      const ArenaWinner b = game == 0 ? ArenaWinner::model : ArenaWinner::baseline;
      if (label == "A=B") battles.push_back({ArenaWinner::tie, q});
      if (label == "A>B" || label == "B>A") battles.push_back({label == "A>B" ? a : b, q});
      if (label == "A>>B" || label == "B>>A")
        battles.insert(battles.end(), static_cast<size_t>(strong_weight),
                       {label == "A>>B" ? a : b, q});
    }
  }
  return battles;
}

ArenaScore arena_score(const std::vector<ArenaBattle>& battles, int rounds, uint32_t seed) {
  const auto count = static_cast<double>(battles.size());
  double won = 0;
  for (const ArenaBattle& battle : battles) won += won_by_model(battle.winner);
  ArenaScore score;
  score.score = win_rate(rating(won, count));
  NumpyRandom random(seed);
  std::vector<double> ratings;
  for (int round = 0; round < rounds; ++round) {
    double resampled = 0;
    for (size_t i = 0; i < battles.size(); ++i)
      resampled += won_by_model(
          battles[static_cast<size_t>(random.integer(0, static_cast<int64_t>(battles.size())))]
              .winner);
    ratings.push_back(rating(resampled, count));
  }
  set_interval(score, std::move(ratings));
  return score;
}

ArenaScore arena_score_style(const std::vector<ArenaBattle>& battles,
                             const std::vector<ArenaGames>& games, int rounds, uint32_t seed) {
  std::vector<Observation> rows;
  for (const ArenaBattle& battle : battles) {
    const ArenaStyle &a = games[battle.question].baseline, &b = games[battle.question].model;
    Observation row{
        {kLn10, -kLn10}, 2 * (1 - won_by_model(battle.winner)), 2 * won_by_model(battle.winner)};
    const std::pair<int64_t, int64_t> pairs[] = {
        {a.tokens, b.tokens}, {a.headers, b.headers}, {a.lists, b.lists}, {a.bold, b.bold}};
    for (size_t i = 0; i < 4; ++i) {
      const auto [x, y] = pairs[i];
      row.x[2 + i] = static_cast<double>(x - y) / static_cast<double>(x + y + 1);
    }
    rows.push_back(row);
  }
  const auto count = static_cast<double>(rows.size());
  for (size_t c = 2; c < kColumns; ++c) {
    double mean = 0, squares = 0;
    for (const Observation& row : rows) mean += row.x[c] / count;
    for (const Observation& row : rows) squares += (row.x[c] - mean) * (row.x[c] - mean) / count;
    // A feature that never differs says nothing; the original would divide by zero.
    for (Observation& row : rows)
      row.x[c] = squares > 0 ? (row.x[c] - mean) / std::sqrt(squares) : 0;
  }
  const Vector whole = fit(rows, {});
  ArenaScore score;
  score.score = win_rate(difference(whole));
  score.style = {whole[2], whole[3], whole[4], whole[5]};
  NumpyRandom random(seed);
  std::vector<double> ratings;
  for (int round = 0; round < rounds; ++round) {
    std::vector<int> drawn(rows.size());
    for (size_t i = 0; i < rows.size(); ++i)
      ++drawn[static_cast<size_t>(random.integer(0, static_cast<int64_t>(rows.size())))];
    std::vector<Observation> resampled;
    for (size_t i = 0; i < rows.size(); ++i)
      if (drawn[i] > 0)
        resampled.push_back({rows[i].x, drawn[i] * rows[i].won, drawn[i] * rows[i].lost});
    ratings.push_back(difference(fit(resampled, whole)));
  }
  set_interval(score, std::move(ratings));
  return score;
}

std::optional<double> game_agreement(const std::vector<ArenaGames>& games) {
  int64_t agreed = 0, judged = 0;
  for (const ArenaGames& of : games) {
    const auto battles = arena_battles({of}, 1);
    if (battles.size() != 2) continue;
    ++judged;
    agreed += battles[0].winner == battles[1].winner;
  }
  if (judged == 0) return std::nullopt;
  return static_cast<double>(agreed) / static_cast<double>(judged);
}

}  // namespace narrow::evaluate
