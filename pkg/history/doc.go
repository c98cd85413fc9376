// Package history keeps the history in a process of its own: a child of the agent, started from the same program.
//
// The child opens the database (pkg/store), writes what the agent hands over once a second, and answers the Prometheus
// HTTP API. The agent starts it, starts it again whenever it ends, and passes requests on. So a panic inside the
// database, a disk that is full or does not answer, and the memory of queries end at most the child. See
// docs/decisions/history-process.md.
//
// Two socket pairs join them; the child inherits one end of each:
//
//   - descriptor 3, a stream: [setup] as a gob value and then each [second] by codec.go to the child, [report]s as gob
//     values to the agent;
//   - descriptor 4, packets: one for each connection of the agent's HTTP client; the connection itself is a further
//     socket pair, whose end comes along as a descriptor (unix(7), SCM_RIGHTS).
//
// Nothing listens on a path or a port, so nobody else can ask the child.
package history
