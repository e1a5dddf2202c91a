// A device error such as a fault in a kernel leaves.
#pragma once

#include <string>

namespace narrow {

// Runs a kernel that traps. No CUDA call of this process succeeds from then on; a new process is
// not concerned. Returns the error's name.
std::string break_device();

}  // namespace narrow
