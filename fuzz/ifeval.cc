// A response to an IFEval prompt, as arbitrary text: judged by every checker that takes no pattern.
#include "evaluate/ifeval.h"

#include <string>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using narrow::Json;
  static const Json document = Json::parse(R"({
    "instruction_id_list": ["language:response_language", "length_constraints:number_sentences",
      "length_constraints:number_paragraphs", "length_constraints:nth_paragraph_first_word",
      "detectable_format:number_highlighted_sections", "detectable_format:json_format",
      "detectable_format:title", "combination:two_responses", "startend:end_checker",
      "change_case:capital_word_frequency", "change_case:english_lowercase"],
    "kwargs": [{"language": "de"}, {"num_sentences": 2, "relation": "at least"},
      {"num_paragraphs": 2}, {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "a"},
      {"num_highlights": 1}, {}, {}, {}, {"end_phrase": "end"},
      {"capital_frequency": 1, "capital_relation": "at least"}, {}]})");
  narrow::evaluate::judge_ifeval(
      document, std::string(reinterpret_cast<const char*>(data), size < 4000 ? size : 4000));
  return 0;
}
