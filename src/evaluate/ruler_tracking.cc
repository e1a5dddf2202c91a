// Variable tracking: a chain of assignments hidden in noise, after a worked example.
#include "evaluate/ruler_make.h"

namespace narrow::evaluate::ruler {
namespace {

constexpr const char* kNoise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
constexpr const char* kTemplate =
    "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
    "{context}\nQuestion: Find all variables that are assigned the value {query} in the text "
    "above.";
constexpr const char* kPrefix =
    " Answer: According to the chain(s) of variable assignment in the text above, {num_v} "
    "variables "
    "are assigned the value {query}, they are: ";
constexpr int kHops = 4;
constexpr const char* kExampleValue = "12345";

class Tracking {
 public:
  explicit Tracking(uint32_t seed) : draws_(seed) {}

  // A chain among `size` lines of noise; the example's has shorter names and a fixed value.
  std::optional<Made> make(int64_t size, bool example) {
    const int letters = example ? 3 : 5;
    std::vector<std::string> names;
    for (int i = 0; i <= kHops; ++i) names.push_back(draws_.letters('A', letters));
    for (size_t i = 0; i < names.size(); ++i)
      if (std::find(names.begin(), names.begin() + static_cast<long>(i), names[i]) !=
          names.begin() + static_cast<long>(i))
        return std::nullopt;  // where RULER's script fails, too
    const std::string value =
        example ? kExampleValue : std::to_string(draws_.numpy.integer(10000, 99999));
    std::vector<std::string> chain{"VAR " + names[0] + " = " + value};
    for (size_t i = 0; i < kHops; ++i)
      chain.push_back("VAR " + names[i + 1] + " = VAR " + names[i] + " ");
    if (size < static_cast<int64_t>(chain.size())) return std::nullopt;
    std::vector<std::string> lines(static_cast<size_t>(size), kNoise);
    auto places = draws_.python.sample(size, static_cast<int64_t>(chain.size()));
    std::sort(places.begin(), places.end());
    for (size_t i = 0; i < chain.size(); ++i)
      lines.insert(lines.begin() + places[i] + static_cast<long>(i), chain[i]);
    std::string context;
    for (const std::string& line : lines) context += (context.empty() ? "" : "\n") + line;
    return Made{
        format(std::string(kTemplate) + kPrefix, {{"context", replaced(context, ". \n", ".\n")},
                                                  {"query", value},
                                                  {"num_v", std::to_string(kHops + 1)}}),
        names};
  }

  // The example with names and value drawn anew. Its last words are its names.
  std::string redrawn(std::string example, std::vector<std::string> names) {
    for (const std::string& name : names)
      example = replaced(example, name, draws_.letters('A', static_cast<int>(name.size())));
    return replaced(example, kExampleValue, std::to_string(draws_.numpy.integer(10000, 99999)));
  }

 private:
  Draws draws_;
};

int64_t fill(const Make& make, int64_t step, int64_t limit, int64_t extra,
             const TokenCounter& count) {
  const auto tokens = [&](int64_t size) {
    const auto made = make(size);
    return made ? count(made->text) : INT64_MAX / 2;
  };
  const double each = static_cast<double>(tokens(step)) / static_cast<double>(step);
  return find_size(step, static_cast<int64_t>(static_cast<double>(limit) / each * 3),
                   [&](int64_t middle) { return tokens(middle) + extra <= limit; });
}

}  // namespace

std::vector<RulerSample> make_tracking(const Json& settings, const RulerOptions& options,
                                       const TokenCounter& count) {
  constexpr int64_t kExampleTokens = 500, kExampleStep = 5;
  Tracking tracking(options.seed);
  const Make make_example = [&](int64_t size) { return tracking.make(size, true); };
  const int64_t example_limit = kExampleTokens - options.template_tokens;
  const int64_t example_size = fill(make_example, kExampleStep, example_limit, 0, count);
  const Made drawn = draw_fitting(example_size, kExampleStep, example_limit, 0, make_example, count,
                                  "RULER's example of variable tracking")
                         .made;
  std::string example = drawn.text + " ";
  for (size_t i = 0; i < drawn.outputs.size(); ++i) example += (i ? " " : "") + drawn.outputs[i];
  example += "\n";

  const auto extra = settings["new_tokens"].get<int64_t>();
  const int64_t limit = options.length - options.template_tokens;
  const int64_t step = options.length < 4096 ? 5 : 10;
  const int64_t size = fill([&](int64_t n) { return tracking.make(n, false); }, step, limit,
                            extra + count(example), count);
  std::vector<RulerSample> samples;
  for (int64_t i = 0; i < options.samples; ++i) {
    const Make make = [&](int64_t n) -> std::optional<Made> {
      auto made = tracking.make(n, false);
      if (made) made->text = tracking.redrawn(example, drawn.outputs) + "\n" + made->text;
      return made;
    };
    samples.push_back(cut(
        draw_fitting(size, step, limit, extra, make, count, "RULER's variable tracking"), kPrefix));
  }
  return samples;
}

}  // namespace narrow::evaluate::ruler
