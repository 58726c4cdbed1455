// How many processors this process may use.
#pragma once

namespace recengine {

// min(affinity mask, cgroup v1/v2 quota rounded up), at least 1. cost: reads two small files.
int cpu_count();

}  // namespace recengine
