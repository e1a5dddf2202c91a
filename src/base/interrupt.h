// Ctrl-C and SIGTERM. The first asks the program to stop at the next safe point, keeping all
// finished rows; the second ends it at once.
#pragma once

namespace narrow {

// Installs the handlers for SIGINT and SIGTERM. Call once, before threads start.
void install_interrupt_handlers();

// True once the user has asked to stop. Async-signal-safe to set, cheap to poll.
bool interrupted();

// Throws Error(Kind::interrupted) once the user has asked to stop.
void throw_if_interrupted();

}  // namespace narrow
