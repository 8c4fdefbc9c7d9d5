# Prints a model of 1,200 services, each of which calls up to eight others with probability 0.1.
BEGIN {
    n = 1200
    print "version: 1\nworkload:"
    for (i = 0; i < 50; i++) printf "  users-%d: { to: s%d.op, open: { rate: 40/s } }\n", i, i
    print "services:"
    for (i = 0; i < n; i++) {
        steps = sprintf("{ work: { lognormal: { p50: %dms, p99: %dms } } }", 1 + i % 5, 4 * (1 + i % 5))
        for (k = 1; k <= 8; k++) {
            j = i + k * k * 17
            if (j < n) {
                steps = steps sprintf(", { call: { to: s%d.op, times: { 0: 0.9, 1: 0.1 } } }", j)
                edges[++m] = sprintf("  s%d->s%d: { latency: 1ms, timeout: 1s, retry: { attempts: 2, backoff: 10ms } }", i, j)
            }
        }
        printf "  s%d: { workers: 256, operations: { op: { paths: [ { weight: 1, steps: [ %s ] } ] } } }\n", i, steps
    }
    print "edges:"
    for (e = 1; e <= m; e++) print edges[e]
}
