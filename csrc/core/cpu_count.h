// How many processors this process may use.
#pragma once

namespace recengine {

// min(affinity mask, quota), at least 1.
//
// The mask is read on Linux and Windows (macOS has none), the quota, rounded up, from cgroup v1 or
// v2 on Linux alone. cost: reads two small files. threads: any.
int cpu_count();

}  // namespace recengine
