#include "evaluate/ruler.h"

#include <utf8proc.h>

#include "base/data_files.h"
#include "base/error.h"
#include "evaluate/ruler_make.h"

namespace narrow::evaluate {
namespace {

const Json& settings() {
  static const Json all = read_yaml(data_folder("tasks/ruler") / "tasks.yaml");
  return all;
}

std::string lower(const std::string& text) {
  std::string result;
  const auto* at = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  auto left = static_cast<utf8proc_ssize_t>(text.size());
  while (left > 0) {
    utf8proc_int32_t point = 0;
    const utf8proc_ssize_t length = utf8proc_iterate(at, left, &point);
    if (length <= 0) {  // a broken byte is kept
      result += static_cast<char>(*at++);
      --left;
      continue;
    }
    utf8proc_uint8_t bytes[4];
    const auto written = utf8proc_encode_char(utf8proc_tolower(point), bytes);
    result.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(written));
    at += length;
    left -= length;
  }
  return result;
}

}  // namespace

std::vector<RulerTask> ruler_tasks() {
  std::vector<RulerTask> tasks;
  for (const auto& [name, of] : settings().items())
    tasks.push_back({name, json_get<int64_t>(of, "new_tokens", "tasks/ruler"),
                     json_get<std::string>(of, "score", "tasks/ruler") == "part"
                         ? RulerScore::part
                         : RulerScore::all});
  return tasks;
}

std::vector<RulerSample> make_ruler(const std::string& task, const RulerOptions& options,
                                    const TokenCounter& count) {
  const auto found = settings().find(task);
  if (found == settings().end()) throw Error::refused("no task of RULER", task);
  const auto kind = json_get<std::string>(*found, "kind", "tasks/ruler");
  if (kind == "niah") return ruler::make_niah(*found, options, count);
  if (kind == "tracking") return ruler::make_tracking(*found, options, count);
  if (kind == "common_words") return ruler::make_common_words(*found, options, count);
  if (kind == "frequent_words") return ruler::make_frequent_words(*found, options, count);
  if (kind == "qa") return ruler::make_qa(*found, options, count);
  throw Error::refused("unknown kind \"" + kind + "\"", "tasks/ruler: " + task);
}

RulerVerdict score_ruler(RulerScore score, const std::string& answer,
                         const std::vector<std::string>& outputs) {
  if (outputs.empty()) throw Error::refused("a sample without expected texts", "RULER");
  std::string text = lower(answer);
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20) c = '\n';
  double held = 0;
  for (const std::string& output : outputs)
    if (text.find(lower(output)) != std::string::npos) ++held;
  const auto count = static_cast<double>(outputs.size());
  const bool part = score == RulerScore::part;
  // The harness divides by the number of texts in both cases (its string_match_part).
  return {part ? (held > 0 ? 1.0 : 0.0) : held / count,
          part ? (held > 0 ? 1.0 : 0.0) / count : held / count};
}

}  // namespace narrow::evaluate
