// What the current device can do, by its compute capability.
#pragma once

namespace narrow::ops::cuda {

// 10 · major + minor: 80 is Ampere (A100), 89 Ada, 90 Hopper, 100 and 120 Blackwell. Throws
// Error::failed.
int compute_capability();

// Clusters of thread blocks and programmatic dependent launches.
bool has_clusters();

}  // namespace narrow::ops::cuda
