#include "quantize/calibration.h"

#include <sstream>

#include "base/data_files.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"

namespace narrow::quantize {
namespace {

// Shorter lines are headings and navigation, as a rule.
constexpr size_t kShortestParagraph = 50;

std::string joined_paragraphs(const std::string& text) {
  std::istringstream lines(text);
  std::string line, joined;
  while (std::getline(lines, line)) {
    if (line.size() <= kShortestParagraph) continue;
    if (!joined.empty()) joined += "\n\n\n\n";
    joined += line;
  }
  return joined;
}

std::string joined_rows(const std::string& source) {
  std::string joined;
  for_each_json_line(source, [&](Json&& row, int64_t line) {
    const std::string where = source + ":" + std::to_string(line);
    std::string text;
    if (row.contains("text")) {
      text = json_get<std::string>(row, "text", where);
    } else if (row.contains("messages")) {
      for (const Json& message : row["messages"])
        text += json_get<std::string>(message, "content", where) + "\n";
    } else {
      text = json_get<std::string>(row, "instruction", where) + "\n" +
             json_get<std::string>(row, "output", where);
    }
    if (!joined.empty()) joined += "\n\n\n\n";
    joined += text;
  });
  return joined;
}

std::vector<std::vector<int32_t>> ready_windows(const std::string& source, int64_t samples) {
  Json document = parse_json(read_text_maybe_gz(source), source);
  for (const char* key : {"windows", "ids", "input_ids"})
    if (document.is_object() && document.contains(key)) document = Json(document[key]);
  std::vector<std::vector<int32_t>> windows;
  try {
    windows = document.get<std::vector<std::vector<int32_t>>>();
  } catch (const nlohmann::json::exception&) {
    throw Error::refused("expected a list of lists of token ids", source);
  }
  if (samples > 0 && samples < static_cast<int64_t>(windows.size()))
    windows.resize(static_cast<size_t>(samples));
  return windows;
}

bool has_suffix(const std::string& name, const std::string& suffix) {
  return name.ends_with(suffix) || name.ends_with(suffix + ".gz");
}

}  // namespace

int64_t Calibration::tokens() const {
  int64_t total = 0;
  for (const auto& window : windows) total += static_cast<int64_t>(window.size());
  return total;
}

std::string Calibration::hash() const {
  Sha256 hash;
  for (const auto& window : windows) {
    hash.add(std::as_bytes(std::span(window)));
    hash.add("\n");
  }
  return hash.hex();
}

Calibration load_calibration(const std::string& source, const text::Tokenizer& tokenizer,
                             int64_t samples, int64_t length) {
  Calibration calibration;
  calibration.name = source.empty() ? "c4-sample" : source;
  const std::string file =
      source.empty() ? (data_folder("recipes/calibration") / "c4_sample.txt.gz").string() : source;
  if (has_suffix(file, ".json")) {
    calibration.windows = ready_windows(file, samples);
    if (calibration.windows.empty()) throw Error::refused("no windows", file);
    return calibration;
  }
  const std::string text =
      has_suffix(file, ".jsonl") ? joined_rows(file) : joined_paragraphs(read_text_maybe_gz(file));
  const auto ids = tokenizer.encode(text, {});
  const auto have = static_cast<int64_t>(ids.size()) / length;
  if (have < samples) {
    throw Error::refused("the text fills " + std::to_string(have) + " windows of " +
                             std::to_string(length) + " tokens, " + std::to_string(samples) +
                             " are wanted",
                         file, "give more text, or fewer or shorter windows");
  }
  for (int64_t w = 0; w < samples; ++w)
    calibration.windows.emplace_back(ids.begin() + w * length, ids.begin() + (w + 1) * length);
  return calibration;
}

}  // namespace narrow::quantize
