#include "base/interrupt.h"

#include <unistd.h>
#include <csignal>

#include "base/error.h"

namespace narrow {
namespace {

volatile std::sig_atomic_t stop_requested = 0;

extern "C" void on_signal(int) {
  if (stop_requested) _exit(130);
  stop_requested = 1;
}

}  // namespace

void install_interrupt_handlers() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return stop_requested != 0; }

void throw_if_interrupted() {
  if (interrupted()) {
    throw Error(Error::Kind::interrupted, "interrupted", {},
                "run the same command again: rows that were finished are kept");
  }
}

}  // namespace narrow
