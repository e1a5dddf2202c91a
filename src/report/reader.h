// What the page lets a person read: questions with both answers, as the document that reader.js
// shows. Bounded: the page holds so many bytes of text, flips first, each format and task its
// share; how many of how many is said.
#pragma once

#include "analyse/analysis.h"

namespace narrow::report {

struct ReaderLimits {
  int64_t bytes = 5'000'000;  // of all texts
  int64_t prompt = 32'768;    // of a prompt; a longer one loses its middle
  int64_t answer = 6'144;  // of an answer behind the first difference; a longer one loses its end
};

// {"prompts": [[context, …], …], "groups": [{task, format, pairs, lost, gained, changed, shown}],
//  "samples": [{id, group, subtask, doc, flip, divergence, prompt, continuations, target, metric, score_base,
//  score,
//    choices: [{text, base, format}], chosen_base, chosen        of a choice, or
//    alike, rest_base, rest, extracted_base, extracted}]}        of a generated answer
// prompt: index into prompts. alike: what both answers begin with. id: the anchor, made of what
// names the question. Texts are visible() and no markup: they are shown as text.
Json reader_data(const analyse::Analysis& analysis, const ReaderLimits& limits = {});

}  // namespace narrow::report
