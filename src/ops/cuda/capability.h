// What the current device can do and has. All throw Error::failed.
#pragma once

namespace narrow::ops::cuda {

// 10 · major + minor: 80 is Ampere (A100), 89 Ada, 90 Hopper, 100 and 120 Blackwell.
int compute_capability();

// Clusters of thread blocks and programmatic dependent launches.
bool has_clusters();

int processors();                  // streaming multiprocessors
int shared_memory_of_processor();  // bytes

}  // namespace narrow::ops::cuda
