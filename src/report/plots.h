// What the page's plots show, as the document that page.js reads.
#pragma once

#include <map>
#include <string>

#include "analyse/analysis.h"

namespace narrow::report {

// Index into the page's colours --f0 … --f7: the formats of the study always have the same, others
// take the rest in order.
std::map<std::string, int> format_colours(const analyse::Analysis& analysis);

struct Plot {
  std::string id, title, note;  // note: how to read it
  std::string description;      // for those who do not see it
  Json data;
};

std::vector<Plot> pareto_plots(const analyse::Analysis& analysis);
std::vector<Plot> load_plots(const analyse::Analysis& analysis);
std::vector<Plot> layer_plots(const analyse::Analysis& analysis);

}  // namespace narrow::report
