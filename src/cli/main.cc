#include <cstdio>
#include <exception>
#include <iostream>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "cli/verbs.h"

int main(int argc, char** argv) {
  using namespace narrow;
  CLI::App app{
      "narrow: in which precision to serve a model, what it costs in accuracy, what it saves"};
  app.set_version_flag("--version", NARROW_VERSION);
  app.require_subcommand(1);
  cli::Globals globals;
  cli::add_arena(app, globals);
  cli::add_bench(app, globals);
  cli::add_compare(app, globals);
  cli::add_eval(app, globals);
  cli::add_inspect(app, globals);
  cli::add_pull(app, globals);
  cli::add_generate(app, globals);
  cli::add_quantize(app, globals);
  cli::add_recommend(app, globals);
  cli::add_report(app, globals);
  cli::add_score(app, globals);
  cli::add_study(app, globals);
  cli::add_tokenize(app, globals);
  install_interrupt_handlers();
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    const int status = app.exit(error);
    return status == 0 ? 0 : 2;
  } catch (const Error& error) {
    log::write(log::Level::error, error.what());
    return error.exit_status();
  } catch (const std::exception& error) {
    log::write(log::Level::error, error.what());
    return 1;
  }
}
